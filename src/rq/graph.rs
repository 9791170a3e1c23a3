//! Values that refer to each other, wherever they were read from.

/// The number of a node.
pub(super) type NodeId = usize;

/// A value. What a tuple, a list or a set holds is all the same here.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    None,
    Int(i64),
    Text(String),
    List(Vec<NodeId>),
    Dict(Vec<(NodeId, NodeId)>),
    /// A value that no task is described by: an object, a float, an integer of many digits, bytes.
    Other,
}

/// Values that refer to each other. A pickle can make a list a member of itself: follow references
/// to a limited depth only.
#[derive(Debug)]
pub(super) struct Graph {
    pub(super) nodes: Vec<Node>,
    pub(super) root: NodeId,
}

impl Graph {
    pub(super) fn root(&self) -> NodeId {
        self.root
    }

    pub(super) fn node(&self, id: NodeId) -> &Node {
        self.nodes.get(id).unwrap_or(&Node::Other)
    }

    /// A graph of JSON's values. They are a tree, and no deeper than serde_json allows.
    pub(super) fn from_json(value: serde_json::Value) -> Graph {
        let mut nodes = Vec::new();
        let root = add_json(&mut nodes, value);
        Graph { nodes, root }
    }
}

fn add_json(nodes: &mut Vec<Node>, value: serde_json::Value) -> NodeId {
    let node = match value {
        serde_json::Value::Null => Node::None,
        serde_json::Value::Number(number) => number.as_i64().map_or(Node::Other, Node::Int),
        serde_json::Value::String(text) => Node::Text(text),
        serde_json::Value::Array(values) => {
            Node::List(values.into_iter().map(|value| add_json(nodes, value)).collect())
        }
        serde_json::Value::Object(fields) => Node::Dict(
            fields.into_iter().map(|(name, value)| (add_json(nodes, name.into()), add_json(nodes, value))).collect(),
        ),
        serde_json::Value::Bool(_) => Node::Other,
    };
    nodes.push(node);
    nodes.len() - 1
}
