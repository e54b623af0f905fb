//! Takes programs out of the host's Debian packages into an image, with their shared libraries.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::image::File;

/// The real PPTP client.
const PPTP: &str = "/usr/sbin/pptp";
/// A shell and the usual tools in one static file.
const BUSYBOX: &str = "/bin/busybox";

/// A Debian package that something was taken from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) architecture: String,
}

/// Adds pptp-linux, busybox with a link for each of its tools, and the directories they write to. Says where it is all from.
pub(super) fn add_to(files: &mut BTreeMap<String, File>) -> Result<Vec<Package>> {
    let mut taken = vec![PPTP.to_owned(), BUSYBOX.to_owned()];
    taken.extend(libraries(&output("ldd", &[PPTP])?));
    for path in &taken {
        let content = std::fs::read(path).with_context(|| format!("read {path}"))?;
        files.insert(path.clone(), File::program(content));
    }
    for tool in output(BUSYBOX, &["--list-full"])?.lines() {
        // The image's own programs win over busybox's.
        files.entry(format!("/{tool}")).or_insert_with(|| File::Link(BUSYBOX.to_owned()));
    }
    files.insert("/run".to_owned(), File::Dir { mode: 0o755 });
    files.insert("/tmp".to_owned(), File::Dir { mode: 0o1777 });
    // pptp keeps the socket of its call manager in /var/run/pptp.
    files.insert("/var/run".to_owned(), File::Link("/run".to_owned()));
    packages(&taken)
}

/// Paths in what ldd says: `NAME => PATH (ADDRESS)`, and the loader as `PATH (ADDRESS)`.
fn libraries(ldd: &str) -> Vec<String> {
    ldd.lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(str::to_owned)
        .collect()
}

/// The packages that own these files, each once.
fn packages(paths: &[String]) -> Result<Vec<Package>> {
    let mut found = BTreeSet::new();
    for path in paths {
        // With /usr merged, dpkg knows a file by one of its two paths only.
        let other = path.strip_prefix("/usr").map_or_else(|| format!("/usr{path}"), str::to_owned);
        let owner = output("dpkg-query", &["-S", path]).or_else(|_| output("dpkg-query", &["-S", &other]))?;
        let Some((name, _)) = owner.lines().next().and_then(|line| line.split_once(": ")) else {
            bail!("no Debian package owns {path}; install it from Debian's archive");
        };
        let facts = output("dpkg-query", &["-W", "-f=${Package} ${Version} ${Architecture}", name])?;
        let words: Vec<&str> = facts.split(' ').collect();
        let [name, version, architecture] = words.as_slice() else { bail!("dpkg-query -W {name}: {facts:?}") };
        found.insert(Package {
            name: (*name).to_owned(),
            version: (*version).to_owned(),
            architecture: (*architecture).to_owned(),
        });
    }
    Ok(found.into_iter().collect())
}

fn output(program: &str, args: &[&str]) -> Result<String> {
    let out = Command::new(program).args(args).output().with_context(|| format!("start {program}"))?;
    if !out.status.success() {
        bail!("`{program} {}` ended with {}: {}", args.join(" "), out.status, String::from_utf8_lossy(&out.stderr));
    }
    String::from_utf8(out.stdout).with_context(|| format!("output of {program}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_the_loader_are_found_and_the_kernels_page_is_not() {
        let ldd = "\tlinux-vdso.so.1 (0x00007f)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                   \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        assert_eq!(libraries(ldd), ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]);
    }
}
