//! Reads Python's pickle, protocols 0 to 5, as data.
//!
//! A pickle is a program for a small stack machine that may call any function. This machine knows
//! how to build plain data; whatever else a pickle asks for (an object, a call) becomes
//! [`Node::Other`], and nothing is ever looked up or run. Each step adds at most one node, and
//! containers refer to nodes by number: time and memory are linear in the length of the pickle, and
//! nothing here recurses. (The serde-pickle crate copies what is referred to twice and recurses for
//! what is nested: twenty bytes can fill its memory, and a hundred thousand overflow its stack,
//! which ends the process.)
//!
//! The opcodes are those of `pickletools` in Python's library.

use std::collections::HashMap;

use super::graph::{Graph, Node, NodeId};

impl Graph {
    /// Runs a pickle. `Err` says what is wrong with it.
    pub(super) fn from_pickle(pickle: &[u8]) -> Result<Graph, String> {
        let mut machine = Machine {
            input: pickle,
            at: 0,
            nodes: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        };
        loop {
            let at = machine.at;
            match machine.step() {
                Some(Step::On) => {}
                Some(Step::Stop(root)) => return Ok(Graph { nodes: machine.nodes, root }),
                None => {
                    return Err(format!(
                        "the pickle is damaged or of a later protocol (byte {at} of {})",
                        pickle.len()
                    ));
                }
            }
        }
    }
}

struct Machine<'a> {
    input: &'a [u8],
    at: usize,
    nodes: Vec<Node>,
    stack: Vec<NodeId>,
    /// Heights of the stack where a MARK lies.
    marks: Vec<usize>,
    memo: HashMap<usize, NodeId>,
}

enum Step {
    On,
    Stop(NodeId),
}

impl Machine<'_> {
    /// One opcode; `None` when it cannot be done.
    fn step(&mut self) -> Option<Step> {
        match self.byte()? {
            b'.' => return Some(Step::Stop(self.pop()?)),
            0x80 => _ = self.byte()?,   // PROTO
            0x95 => _ = self.bytes(8)?, // FRAME
            b'N' => self.push(Node::None),
            0x88 | 0x89 => self.push(Node::Other), // NEWTRUE, NEWFALSE
            b'I' | b'L' => {
                let digits = self.line()?;
                let number = digits.trim_end_matches('L').parse().map_or(Node::Other, Node::Int);
                self.push(number);
            }
            b'K' => {
                let number = self.byte()?;
                self.push(Node::Int(number.into()))
            }
            b'M' => {
                let number = self.length(2)?;
                self.push(Node::Int(number as i64))
            }
            b'J' => {
                let number = i32::from_le_bytes(self.bytes(4)?.try_into().ok()?);
                self.push(Node::Int(number.into()));
            }
            0x8a => {
                let length = self.length(1)?;
                self.long(length)?
            } // LONG1
            0x8b => {
                let length = self.length(4)?;
                self.long(length)?
            } // LONG4
            b'F' => {
                self.line()?;
                self.push(Node::Other)
            }
            b'G' => {
                self.bytes(8)?;
                self.push(Node::Other)
            }
            b'S' => {
                // STRING: Python's repr, as written by protocol 0 of Python 2
                let text = self.line()?.trim_matches(['\'', '"']).to_owned();
                self.push(Node::Text(text));
            }
            b'V' => {
                let text = self.line()?.to_owned();
                self.push(Node::Text(text))
            }
            0x8c | b'U' => self.text(1)?,
            b'X' | b'T' => self.text(4)?,
            0x8d => self.text(8)?,
            b'C' => self.skip(1)?,
            b'B' => self.skip(4)?,
            0x8e | 0x96 => self.skip(8)?,   // BINBYTES8, BYTEARRAY8
            0x97 => self.push(Node::Other), // NEXT_BUFFER
            0x98 => {}                      // READONLY_BUFFER
            b'(' => self.marks.push(self.stack.len()),
            b'0' => match self.marks.last() {
                Some(&mark) if mark == self.stack.len() => _ = self.marks.pop(),
                _ => _ = self.pop()?,
            },
            b'1' => _ = self.marked()?,
            b'2' => {
                let top = *self.stack.last()?;
                self.stack.push(top)
            }
            b']' | b')' | 0x8f => self.push(Node::List(Vec::new())), // EMPTY_LIST, EMPTY_TUPLE, EMPTY_SET
            b'}' => self.push(Node::Dict(Vec::new())),
            b'l' | b't' | 0x91 => {
                let items = self.marked()?;
                self.push(Node::List(items))
            } // LIST, TUPLE, FROZENSET
            0x85 => self.tuple(1)?,
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            b'd' => {
                let items = self.marked()?;
                self.push(Node::Dict(pairs(&items)))
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?
            }
            b'e' | 0x90 => {
                let items = self.marked()?;
                self.append(items)?
            } // APPENDS, ADDITEMS
            b's' => {
                let (value, name) = (self.pop()?, self.pop()?);
                self.insert(&[name, value])?
            }
            b'u' => {
                let items = self.marked()?;
                self.insert(&items)?
            }
            b'p' => {
                let index = self.line()?.parse().ok()?;
                self.remember(index)?
            }
            b'q' => {
                let index = self.length(1)?;
                self.remember(index)?
            }
            b'r' => {
                let index = self.length(4)?;
                self.remember(index)?
            }
            0x94 => self.remember(self.memo.len())?, // MEMOIZE
            b'g' => {
                let index = self.line()?.parse().ok()?;
                self.recall(index)?
            }
            b'h' => {
                let index = self.length(1)?;
                self.recall(index)?
            }
            b'j' => {
                let index = self.length(4)?;
                self.recall(index)?
            }
            // From here on: names and objects. None is looked up, none is made.
            b'c' => {
                self.line()?;
                self.line()?;
                self.push(Node::Other)
            } // GLOBAL
            0x93 | 0x81 | b'R' => {
                self.pop()?;
                self.pop()?;
                self.push(Node::Other)
            } // STACK_GLOBAL, NEWOBJ, REDUCE
            0x92 => {
                self.pop()?;
                self.pop()?;
                self.pop()?;
                self.push(Node::Other)
            } // NEWOBJ_EX
            b'i' => {
                self.line()?;
                self.line()?;
                self.marked()?;
                self.push(Node::Other)
            } // INST
            b'o' => {
                self.marked()?;
                self.push(Node::Other)
            } // OBJ
            b'b' => _ = self.pop()?, // BUILD
            b'P' => {
                self.line()?;
                self.push(Node::Other)
            } // PERSID
            b'Q' => {
                self.pop()?;
                self.push(Node::Other)
            } // BINPERSID
            0x82 => {
                self.bytes(1)?;
                self.push(Node::Other)
            } // EXT1, EXT2, EXT4
            0x83 => {
                self.bytes(2)?;
                self.push(Node::Other)
            }
            0x84 => {
                self.bytes(4)?;
                self.push(Node::Other)
            }
            _ => return None,
        }
        Some(Step::On)
    }

    fn byte(&mut self) -> Option<u8> {
        Some(self.bytes(1)?[0])
    }

    fn bytes(&mut self, length: usize) -> Option<&[u8]> {
        let bytes = self.input.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(bytes)
    }

    /// An unsigned number of so many bytes, the lowest first.
    fn length(&mut self, width: usize) -> Option<usize> {
        let mut number = [0; 8];
        number[..width].copy_from_slice(self.bytes(width)?);
        usize::try_from(u64::from_le_bytes(number)).ok()
    }

    /// Text up to the end of the line, which is taken too.
    fn line(&mut self) -> Option<&str> {
        let rest = self.input.get(self.at..)?;
        let length = rest.iter().position(|byte| *byte == b'\n')?;
        self.at += length + 1;
        std::str::from_utf8(&rest[..length]).ok()
    }

    fn text(&mut self, width: usize) -> Option<()> {
        let length = self.length(width)?;
        // The texts of Python 2 may be anything.
        let text = std::str::from_utf8(self.bytes(length)?).map_or(Node::Other, |text| Node::Text(text.to_owned()));
        self.push(text);
        Some(())
    }

    fn skip(&mut self, width: usize) -> Option<()> {
        let length = self.length(width)?;
        self.bytes(length)?;
        self.push(Node::Other);
        Some(())
    }

    /// A number in two's complement, the lowest byte first.
    fn long(&mut self, length: usize) -> Option<()> {
        let bytes = self.bytes(length)?;
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut number = [if negative { 0xff } else { 0 }; 8];
        let node = match number.get_mut(..length) {
            Some(low) => {
                low.copy_from_slice(bytes);
                Node::Int(i64::from_le_bytes(number))
            }
            None => Node::Other,
        };
        self.push(node);
        Some(())
    }

    fn push(&mut self, node: Node) {
        self.nodes.push(node);
        self.stack.push(self.nodes.len() - 1);
    }

    /// Never reaches below the last MARK.
    fn pop(&mut self) -> Option<NodeId> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() > floor { self.stack.pop() } else { None }
    }

    /// Everything down to the last MARK, which is taken too.
    fn marked(&mut self) -> Option<Vec<NodeId>> {
        Some(self.stack.split_off(self.marks.pop()?))
    }

    fn tuple(&mut self, length: usize) -> Option<()> {
        let mut items = Vec::with_capacity(length);
        for _ in 0..length {
            items.push(self.pop()?);
        }
        items.reverse();
        self.push(Node::List(items));
        Some(())
    }

    fn append(&mut self, items: Vec<NodeId>) -> Option<()> {
        let list = *self.stack.last()?;
        if let Node::List(members) = &mut self.nodes[list] {
            members.extend(items);
        }
        Some(())
    }

    fn insert(&mut self, items: &[NodeId]) -> Option<()> {
        let dict = *self.stack.last()?;
        if let Node::Dict(members) = &mut self.nodes[dict] {
            members.extend(pairs(items));
        }
        Some(())
    }

    fn remember(&mut self, index: usize) -> Option<()> {
        self.memo.insert(index, *self.stack.last()?);
        Some(())
    }

    fn recall(&mut self, index: usize) -> Option<()> {
        self.stack.push(*self.memo.get(&index)?);
        Some(())
    }
}

fn pairs(items: &[NodeId]) -> Vec<(NodeId, NodeId)> {
    items.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
}

#[cfg(test)]
mod tests;
