//! The box structure of MP4 (ISO/IEC 14496-12 §4.2).

/// A box in memory: its name and what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mp4Box<'a> {
    pub name: [u8; 4],
    pub body: &'a [u8],
}

/// The head of a box, wherever the rest of it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub name: [u8; 4],
    /// Bytes of the head.
    pub head: u64,
    /// Bytes of the whole box; `None` when it goes on to the end of the file.
    pub size: Option<u64>,
}

/// Longest head: size, name, 64 bits of size.
pub const MAX_HEAD_BYTES: usize = 16;

impl Head {
    /// Reads a head. `None` when `bytes` ends before it does, or when the size is impossible.
    pub fn read(bytes: &[u8]) -> Option<Head> {
        let name = *bytes.get(4..)?.first_chunk()?;
        let (head, size) = match u32_at(bytes, 0)? {
            0 => (8, None),
            1 => (16, Some(u64_at(bytes, 8)?)),
            size => (8, Some(u64::from(size))),
        };
        size.is_none_or(|size| size >= head).then_some(Head { name, head, size })
    }
}

/// The boxes that lie whole in `bytes`, in their order. Ends at the first that does not.
pub fn boxes(mut bytes: &[u8]) -> impl Iterator<Item = Mp4Box<'_>> {
    std::iter::from_fn(move || {
        let Head { name, head, size } = Head::read(bytes)?;
        let size = size.map_or(Some(bytes.len()), |size| usize::try_from(size).ok())?;
        let body = bytes.get(head as usize..size)?;
        bytes = &bytes[size..];
        Some(Mp4Box { name, body })
    })
}

/// The body of the first box of that name.
pub fn child<'a>(bytes: &'a [u8], name: &[u8; 4]) -> Option<&'a [u8]> {
    boxes(bytes).find(|found| found.name == *name).map(|found| found.body)
}

/// The body of the box at the end of a path of names.
pub fn descend<'a>(bytes: &'a [u8], path: &[&[u8; 4]]) -> Option<&'a [u8]> {
    path.iter().try_fold(bytes, |bytes, name| child(bytes, name))
}

/// A big-endian number of 32 bits.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// A big-endian number of 64 bits.
pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

/// A name as text, for messages.
pub fn shown(name: [u8; 4]) -> String {
    name.escape_ascii().to_string()
}
