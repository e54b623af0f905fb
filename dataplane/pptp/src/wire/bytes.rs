//! Big-endian reads and writes at an offset that cannot panic.

/// The `N` bytes at `at`; zeros where the buffer ends before.
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    at.checked_add(N).and_then(|end| bytes.get(at..end)).and_then(|part| part.try_into().ok()).unwrap_or([0; N])
}

/// Writes `value` at `at`; nothing where the buffer ends before.
pub(crate) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(part) = at.checked_add(value.len()).and_then(|end| bytes.get_mut(at..end)) {
        part.copy_from_slice(value);
    }
}

/// The byte at `at`.
pub(crate) fn u8_at(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

/// The 16-bit integer at `at`.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(array(bytes, at))
}

/// The 32-bit integer at `at`.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array(bytes, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_behind_the_end_are_zero_and_writes_are_nothing() {
        let mut bytes = [1, 2, 3];
        assert_eq!(u16_at(&bytes, 1), 0x0203);
        assert_eq!(u16_at(&bytes, 2), 0);
        assert_eq!(u8_at(&bytes, 3), 0);
        assert_eq!(u32_at(&bytes, usize::MAX - 1), 0);
        put(&mut bytes, 2, &[9, 9]);
        put(&mut bytes, usize::MAX, &[9]);
        assert_eq!(bytes, [1, 2, 3]);
        put(&mut bytes, 1, &[8, 9]);
        assert_eq!(bytes, [1, 8, 9]);
    }
}
