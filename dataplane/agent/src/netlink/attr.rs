//! Netlink attributes (linux/netlink.h struct nlattr): built nested, read back flat.

/// Marks an attribute that contains others.
const NESTED: u16 = 0x8000;

/// A list of attributes under construction. One attribute holds 65,531 bytes at most; whoever builds long lists splits them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attrs(Vec<u8>);

impl Attrs {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Begins with a fixed header that stands before the attributes.
    pub(crate) fn after(header: &[u8]) -> Self {
        Self(header.to_vec())
    }

    /// Raw bytes.
    pub(crate) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        self.push(kind, value);
        self
    }

    /// A text with its terminating zero.
    pub(crate) fn text(self, kind: u16, value: &str) -> Self {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat())
    }

    /// 32 bits in network order, as nfnetlink has them.
    pub(crate) fn be32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// 64 bits in network order.
    pub(crate) fn be64(self, kind: u16, value: u64) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// 32 bits in host order.
    pub(crate) fn u32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// Attributes inside an attribute.
    pub(crate) fn nest(self, kind: u16, inner: Attrs) -> Self {
        self.bytes(kind | NESTED, &inner.0)
    }

    /// The finished list.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Length so far, bytes.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    fn push(&mut self, kind: u16, value: &[u8]) {
        debug_assert!(value.len() <= 65_531, "attribute {kind} of {} bytes", value.len());
        let length = (4 + value.len()) as u16;
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        // Each attribute begins at a multiple of four.
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

/// The attributes in `bytes` as (type without flags, value); stops at the first that does not fit.
pub(crate) fn attrs(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes([*bytes.first()?, *bytes.get(1)?]));
        let kind = u16::from_ne_bytes([*bytes.get(2)?, *bytes.get(3)?]) & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The first attribute of this type.
pub(crate) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attrs(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// A 32-bit value in network order.
pub(crate) fn find_be32(bytes: &[u8], kind: u16) -> Option<u32> {
    find(bytes, kind)?.try_into().ok().map(u32::from_be_bytes)
}

/// A text without its terminating zero.
pub(crate) fn find_text(bytes: &[u8], kind: u16) -> Option<String> {
    find(bytes, kind).map(|text| String::from_utf8_lossy(text).trim_end_matches('\0').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_read_back() {
        let inner = Attrs::new().text(1, "ab").be32(2, 0x0102_0304);
        let bytes = Attrs::new().bytes(7, &[]).nest(9, inner.clone()).into_bytes();
        let read: Vec<(u16, Vec<u8>)> = attrs(&bytes).map(|(kind, value)| (kind, value.to_vec())).collect();
        assert_eq!(read, [(7, vec![]), (9, inner.into_bytes())]);
        let nested = find(&bytes, 9).unwrap();
        assert_eq!((find_text(nested, 1), find_be32(nested, 2)), (Some("ab".to_owned()), Some(0x0102_0304)));
    }

    #[test]
    fn a_list_cut_short_ends_there() {
        let whole = Attrs::new().u32(1, 7).u32(2, 8).into_bytes();
        for length in 8..whole.len() {
            assert_eq!(attrs(&whole[..length]).map(|(kind, _)| kind).collect::<Vec<_>>(), [1], "{length} bytes");
        }
    }
}
