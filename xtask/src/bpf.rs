//! The eBPF object: made by clang from one C file and its headers, committed, and held to it by digests and, where clang is, by making it again.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::{process, root};

const SOURCE: &str = "callgate.bpf.c";
/// What it includes.
const HEADERS: [&str; 2] = ["kernel.h", "path.h"];
const OBJECT: &str = "callgate.bpf.o";
/// What the object was made from, what came of it, how and by whom: four lines.
const RECORD: &str = "callgate.bpf.made";

/// Little-endian, and instructions of Linux 5.1 at most. Without -g: no path of a machine is in the object.
const FLAGS: [&str; 8] = ["-O2", "-target", "bpfel", "-mcpu=v3", "-Wall", "-Wextra", "-Werror", "-c"];

/// Makes the object, or says whether the committed one is what the source says.
///
/// # Errors
/// Without clang, where it would be needed.
pub(crate) fn generate(check: bool) -> Result<bool> {
    let dir = dir();
    let read = |name: &str| fs::read(dir.join(name)).with_context(|| format!("dataplane/bpf/{name}"));
    let parts: Vec<Vec<u8>> = std::iter::once(SOURCE).chain(HEADERS).map(&read).collect::<Result<_>>()?;
    let (source, clang) = (parts.concat(), clang());
    let before = (read(OBJECT).unwrap_or_default(), fs::read_to_string(dir.join(RECORD)).unwrap_or_default());
    if !check {
        if let Some(version) = &clang {
            compile(OBJECT)?;
            fs::write(dir.join(RECORD), record(&source, &read(OBJECT)?, version)).context(RECORD)?;
        } else if before.1.lines().take(3).ne(record(&source, &before.0, "").lines().take(3)) {
            bail!(
                "dataplane/bpf/{SOURCE} or how it is compiled has changed, and there is no clang to make {OBJECT} from it: install clang 14 or later"
            );
        }
        return Ok(true);
    }
    let maker = before.1.lines().nth(3).unwrap_or_default().trim_start_matches("clang ").to_owned();
    if record(&source, &before.0, &maker) != before.1 {
        println!(
            "dataplane/bpf/{OBJECT} was not made from {SOURCE} as it is and with these flags, or was changed: run `cargo xtask generate` where clang is"
        );
        return Ok(false);
    }
    if clang.as_ref() != Some(&maker) {
        println!(
            "dataplane/bpf/{OBJECT} was made by clang {maker}, which is not here: its digest is right, it was not made again"
        );
        return Ok(true);
    }
    let again = PathBuf::from("../../target/callgate.bpf.o");
    fs::create_dir_all(root().join("target")).context("target")?;
    compile(&again.to_string_lossy())?;
    let same = fs::read(dir.join(&again)).context("the object just made")? == before.0;
    if !same {
        println!("dataplane/bpf/{OBJECT} is not what clang {maker} makes of {SOURCE}: run `cargo xtask generate`");
    }
    Ok(same)
}

fn dir() -> PathBuf {
    root().join("dataplane/bpf")
}

fn compile(to: &str) -> Result<()> {
    let mut command = Command::new("clang");
    // From where the source is: its name is in the object.
    command.args(FLAGS).args([SOURCE, "-o", to]).current_dir(dir());
    let status = process::run(command, Duration::from_secs(60))?;
    if !status.success() {
        bail!("clang ended with {status}");
    }
    Ok(())
}

/// The major version of clang; `None` where there is none that makes eBPF.
fn clang() -> Option<String> {
    let ask = |args: &[&str]| {
        let out = Command::new("clang").args(args).stderr(Stdio::null()).output().ok()?;
        Some(String::from_utf8_lossy(&out.stdout).into_owned())
    };
    let targets = ask(&["--print-targets"])?;
    if !targets.split_whitespace().any(|word| word == "bpfel") {
        return None;
    }
    let version = ask(&["--version"])?;
    let number = version.split("version ").nth(1)?;
    Some(number.chars().take_while(char::is_ascii_digit).collect())
}

fn record(source: &[u8], object: &[u8], clang: &str) -> String {
    let digest = |bytes: &[u8]| Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let flags = digest(FLAGS.join(" ").as_bytes());
    format!("{SOURCE} {}\n{OBJECT} {}\nflags {flags}\nclang {clang}\n", digest(source), digest(object))
}
