//! What has to be known about our changes to undo or adopt them in another process.

use serde::{Deserialize, Serialize};

use super::options::Options;
use super::tags::Tags;

/// Durable before the changes it describes: the caller's `Keep` writes it, `Kernel::start` gets it back. Valid for one boot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The names and numbers in use; `None` when nothing is.
    pub options: Option<Options>,
    /// Sysctls as they were before we changed them, in the order in which they are put back.
    pub sysctls: Vec<SavedSysctl>,
    /// Which tag each rule has.
    pub tags: Tags,
    /// The names and numbers of runs before that are in force until the first commit, or not all removed behind it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<Options>,
}

/// One file under /proc/sys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedSysctl {
    /// Path below /proc/sys, with slashes (link names may contain dots).
    pub path: String,
    /// Its content before us, without the newline.
    pub before: String,
}

/// Makes a record durable; called before the change that needs it, from the thread that calls `Kernel`.
pub type Keep = Box<dyn FnMut(&Record) -> std::io::Result<()> + Send>;
