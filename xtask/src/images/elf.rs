//! Whether a program needs anything from the system it runs on: looks into its ELF header.

use anyhow::{Result, bail};

/// Program header types, elf(5).
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
/// Dynamic tags, elf(5).
const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;

/// Fails where `content` is no 64-bit little-endian ELF program, or one that needs a loader or shared libraries.
pub(super) fn must_be_static(name: &str, content: &[u8]) -> Result<()> {
    let Some(needs) = needs(content) else {
        bail!("{name} is no 64-bit ELF program; build it for this machine");
    };
    if needs {
        bail!(
            "{name} needs a loader or shared libraries, which the image does not have; leave out --bin-dir, or build with RUSTFLAGS='-C target-feature=+crt-static'"
        );
    }
    Ok(())
}

/// `None`: not a 64-bit ELF file, or one that is cut off.
fn needs(content: &[u8]) -> Option<bool> {
    if !content.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let table = number(content, 32, 8)?;
    let size = number(content, 54, 2)?;
    let count = number(content, 56, 2)?;
    for index in 0..count {
        let at = table.checked_add(index.checked_mul(size)?)?;
        match u32::try_from(number(content, at, 4)?).ok()? {
            PT_INTERP => return Some(true),
            // A static-pie has a dynamic section, but needs nothing.
            PT_DYNAMIC if names_a_library(content, number(content, at + 8, 8)?, number(content, at + 32, 8)?)? => {
                return Some(true);
            }
            _ => {}
        }
    }
    Some(false)
}

fn names_a_library(content: &[u8], start: u64, octets: u64) -> Option<bool> {
    for at in (start..start.checked_add(octets)?).step_by(16) {
        match number(content, at, 8)? {
            DT_NULL => return Some(false),
            DT_NEEDED => return Some(true),
            _ => {}
        }
    }
    Some(false)
}

/// `octets` (at most 8) in little-endian order.
fn number(content: &[u8], at: u64, octets: usize) -> Option<u64> {
    let at = usize::try_from(at).ok()?;
    let field = content.get(at..at.checked_add(octets)?)?;
    Some(field.iter().rev().fold(0, |sum, octet| (sum << 8) | u64::from(*octet)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF header, one program header of `kind` at 64, and 16 octets of dynamic section at 120.
    fn program(kind: u32, tag: u64) -> Vec<u8> {
        let mut elf = vec![0; 136];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[32] = 64;
        elf[54] = 56;
        elf[56] = 1;
        elf[64..68].copy_from_slice(&kind.to_le_bytes());
        elf[72] = 120;
        elf[96] = 16;
        elf[120..128].copy_from_slice(&tag.to_le_bytes());
        elf
    }

    #[test]
    fn a_program_that_needs_a_loader_or_a_library_is_told_from_one_that_does_not() {
        let found = [
            needs(&program(1, 0)),
            needs(&program(PT_INTERP, 0)),
            needs(&program(PT_DYNAMIC, DT_NULL)),
            needs(&program(PT_DYNAMIC, DT_NEEDED)),
            needs(b"#!/bin/sh"),
            needs(&program(PT_DYNAMIC, DT_NEEDED)[..121]),
        ];
        assert_eq!(found, [Some(false), Some(true), Some(false), Some(true), None, None]);
    }

    #[test]
    fn the_test_program_itself_is_dynamic() {
        let own = std::fs::read(std::env::current_exe().expect("own path")).expect("own file");
        assert!(must_be_static("own", &own).is_err());
    }
}
