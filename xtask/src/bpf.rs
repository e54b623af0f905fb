//! eBPF objects: each made by clang from one C file and its headers, committed, and held to them by digests and, where clang is, by
//! making it again.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::{process, root};

/// What one object is made of.
struct Unit {
    /// Where it is, below the root.
    dir: &'static str,
    /// `NAME.bpf.c`, `.bpf.o`, and `.bpf.made`: what the object was made from, what came of it, how and by whom, in four lines.
    name: &'static str,
    /// What the source includes.
    headers: &'static [&'static str],
}

const UNITS: [Unit; 2] = [
    Unit { dir: "dataplane/bpf", name: "callgate", headers: &["kernel.h", "path.h"] },
    // The far ends of the benchmark.
    Unit { dir: "e2e/bpf", name: "card", headers: &["../../dataplane/bpf/kernel.h"] },
];

/// Little-endian, and instructions of Linux 5.1 at most. Without -g: no path of a machine is in the object.
const FLAGS: [&str; 8] = ["-O2", "-target", "bpfel", "-mcpu=v3", "-Wall", "-Wextra", "-Werror", "-c"];

/// Makes the objects, or says whether the committed ones are what their sources say.
///
/// # Errors
/// Without clang, where it would be needed.
pub(crate) fn generate(check: bool) -> Result<bool> {
    let clang = clang();
    UNITS.iter().try_fold(true, |right, unit| Ok(unit.generate(check, clang.as_deref())? && right))
}

impl Unit {
    fn generate(&self, check: bool, clang: Option<&str>) -> Result<bool> {
        let Self { dir, .. } = self;
        let [source, object, record] = ["c", "o", "made"].map(|kind| format!("{}.bpf.{kind}", self.name));
        let read = |name: &str| fs::read(root().join(dir).join(name)).with_context(|| format!("{dir}/{name}"));
        let parts = std::iter::once(source.as_str()).chain(self.headers.iter().copied());
        let text = parts.map(&read).collect::<Result<Vec<_>>>()?.concat();
        let before = (read(&object).unwrap_or_default(), read(&record).unwrap_or_default());
        let recorded = String::from_utf8_lossy(&before.1).into_owned();
        if !check {
            if let Some(version) = clang {
                self.compile(&object)?;
                let made = self.record(&text, &read(&object)?, version);
                fs::write(root().join(dir).join(&record), made).with_context(|| format!("{dir}/{record}"))?;
            } else if recorded.lines().take(3).ne(self.record(&text, &before.0, "").lines().take(3)) {
                bail!(
                    "{dir}/{source} or how it is compiled has changed, and there is no clang to make {object} from it: install clang 14 or later"
                );
            }
            return Ok(true);
        }
        let maker = recorded.lines().nth(3).unwrap_or_default().trim_start_matches("clang ").to_owned();
        if self.record(&text, &before.0, &maker) != recorded {
            println!(
                "{dir}/{object} was not made from {source} as it is and with these flags, or was changed: run `cargo xtask generate` where clang is"
            );
            return Ok(false);
        }
        if clang != Some(&maker) {
            println!(
                "{dir}/{object} was made by clang {maker}, which is not here: its digest is right, it was not made again"
            );
            return Ok(true);
        }
        let again = root().join("target").join(&object);
        fs::create_dir_all(root().join("target")).context("target")?;
        self.compile(&again.to_string_lossy())?;
        let same = fs::read(&again).context("the object just made")? == before.0;
        if !same {
            println!("{dir}/{object} is not what clang {maker} makes of {source}: run `cargo xtask generate`");
        }
        Ok(same)
    }

    fn compile(&self, to: &str) -> Result<()> {
        let mut command = Command::new("clang");
        // From where the source is: its name is in the object.
        command.args(FLAGS).args([&format!("{}.bpf.c", self.name), "-o", to]).current_dir(root().join(self.dir));
        let status = process::run(command, Duration::from_secs(60))?;
        if !status.success() {
            bail!("clang ended with {status}");
        }
        Ok(())
    }

    fn record(&self, source: &[u8], object: &[u8], clang: &str) -> String {
        let digest = |bytes: &[u8]| Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let (flags, name) = (digest(FLAGS.join(" ").as_bytes()), self.name);
        format!("{name}.bpf.c {}\n{name}.bpf.o {}\nflags {flags}\nclang {clang}\n", digest(source), digest(object))
    }
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
