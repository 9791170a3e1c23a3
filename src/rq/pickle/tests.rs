use proptest::prelude::*;

use super::*;

#[test]
fn old_protocols_are_read() {
    // pickle.dumps(("f", None, (43, "a"), {"k": -5}), 0), then protocol 2 of Python 2.
    let first = b"(Vf\np0\nN(I43\nVa\np1\ntp2\n(dp3\nVk\np4\nI-5\nstp5\n.";
    let second = b"\x80\x02(U\x01fNK+U\x01a\x86}U\x01kJ\xfb\xff\xff\xffst.";
    for pickle in [&first[..], second] {
        let graph = Graph::from_pickle(pickle).unwrap();
        let Node::List(parts) = graph.node(graph.root()) else { panic!("{graph:?}") };
        let Node::List(args) = graph.node(parts[2]) else { panic!("{graph:?}") };
        assert_eq!((graph.node(args[0]), graph.node(args[1])), (&Node::Int(43), &Node::Text("a".into())));
        let Node::Dict(kwargs) = graph.node(parts[3]) else { panic!("{graph:?}") };
        assert_eq!(graph.node(kwargs[0].1), &Node::Int(-5));
    }
}

#[test]
fn nothing_is_run_and_nothing_explodes() {
    // os.system("true"), as pickle.dumps writes a call.
    let call = b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.";
    let graph = Graph::from_pickle(call).unwrap();
    assert_eq!(graph.node(graph.root()), &Node::Other);
    // Twice the one before, two hundred times over; and nested a hundred thousand times.
    let mut doubled = b"\x80\x04)\x94".to_vec();
    for index in 0..200 {
        doubled.extend([b'h', index, b'h', index, 0x86, 0x94]);
    }
    doubled.push(b'.');
    assert!(Graph::from_pickle(&doubled).unwrap().nodes.len() < 300);
    let nested = [&b")"[..], &[0x85; 100_000], b"."].concat();
    assert!(Graph::from_pickle(&nested).is_ok());
    // A list in itself.
    assert!(Graph::from_pickle(b"]\x94h\x00a.").is_ok());
}

proptest! {
    #[test]
    fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Graph::from_pickle(&bytes);
    }

    #[test]
    fn a_damaged_pickle_ends(place in 0usize..60, byte: u8) {
        let mut pickle = b"\x80\x05\x95\x2a\0\0\0\0\0\0\0(\x8c\x01f\x94N)\x94}\x94(\x8c\x07task_id\x94K+\x8c\x05email\x94\x8c\x01a\x94ut\x94.".to_vec();
        let place = place % pickle.len();
        pickle[place] = byte;
        let _ = Graph::from_pickle(&pickle);
    }
}
