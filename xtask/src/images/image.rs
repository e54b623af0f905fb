//! An image as a value: its files, how it starts, what is said about it.

use std::collections::BTreeMap;

/// What is true of all images of a run.
#[derive(Debug, Clone)]
pub(super) struct About {
    /// Version of the workspace.
    pub(super) version: String,
    /// Tag of the image reference.
    pub(super) tag: String,
    /// Commit.
    pub(super) revision: String,
    /// Time of every file and of the image, seconds since 1970.
    pub(super) epoch: u64,
    /// It is for this machine's tests: packed in a third of the time, and a little larger.
    pub(super) quick: bool,
}

/// One image before it is packed.
#[derive(Debug)]
pub(super) struct Image {
    /// Name of the image and of its files, such as `callgate-operator`.
    pub(super) name: &'static str,
    /// One line for people.
    pub(super) description: &'static str,
    /// SPDX expression of everything in it.
    pub(super) licences: &'static str,
    /// `USER:GROUP` in numbers.
    pub(super) user: &'static str,
    /// First words of the command line.
    pub(super) entrypoint: Vec<String>,
    /// Absolute path to entry. Parents are added when it is packed.
    pub(super) files: BTreeMap<String, File>,
    /// Bill of materials, CycloneDX JSON.
    pub(super) sbom: Vec<u8>,
}

/// One entry of the file system. Everything belongs to root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum File {
    /// A regular file.
    Plain { mode: u32, content: Vec<u8> },
    /// A symbolic link to this target.
    Link(String),
    /// A directory, needed although nothing is in it.
    Dir { mode: u32 },
}

impl File {
    /// A program.
    pub(super) fn program(content: Vec<u8>) -> Self {
        Self::Plain { mode: 0o755, content }
    }

    /// Something to read.
    pub(super) fn data(content: Vec<u8>) -> Self {
        Self::Plain { mode: 0o644, content }
    }
}
