//! Switches under /proc/sys: read first, written only where they differ, remembered before they are written.

use std::io;
use std::path::Path;

use super::Error;
use super::record::{Keep, Record, SavedSysctl};

const FORWARD: &str = "net/ipv4/ip_forward";

fn full(path: &str) -> std::path::PathBuf {
    Path::new("/proc/sys").join(path)
}

/// The error of one switch.
pub(super) fn failed(path: &str) -> impl FnOnce(io::Error) -> Error {
    let name = path.replace('/', ".");
    move |source| Error::Sysctl { name, source }
}

/// What a switch is now, without its newline.
pub(super) fn read(path: &str) -> io::Result<String> {
    Ok(std::fs::read_to_string(full(path))?.trim_end().to_owned())
}

/// Writes a switch, unless it is so already.
pub(super) fn write(path: &str, value: &str) -> io::Result<()> {
    if read(path)? == value {
        return Ok(());
    }
    std::fs::write(full(path), value)
}

/// Lets the host forward IPv4. Everything the kernel changes along with that switch (net/ipv4/devinet.c,
/// inet_forward_change) is remembered too.
pub(super) fn forward(record: &mut Record, keep: &mut Keep) -> Result<(), Error> {
    let before = read(FORWARD).map_err(failed(FORWARD))?;
    if before == "1" {
        return Ok(());
    }
    if !record.sysctls.iter().any(|saved| saved.path == FORWARD) {
        let mut saved = vec![SavedSysctl { path: FORWARD.into(), before }];
        for path in dependents().map_err(failed("net/ipv4/conf"))? {
            let before = read(&path).map_err(failed(&path))?;
            saved.push(SavedSysctl { path, before });
        }
        let next = Record { sysctls: [&record.sysctls[..], &saved].concat(), ..record.clone() };
        keep(&next).map_err(Error::Record)?;
        *record = next;
    }
    write(FORWARD, "1").map_err(failed(FORWARD))
}

/// The switches that follow `ip_forward`: whether redirects are accepted, and forwarding of each link.
fn dependents() -> io::Result<Vec<String>> {
    let mut paths = vec!["net/ipv4/conf/all/accept_redirects".to_owned()];
    for entry in std::fs::read_dir(full("net/ipv4/conf"))? {
        if let Some(link) = entry?.file_name().to_str().filter(|name| *name != "all") {
            paths.push(format!("net/ipv4/conf/{link}/forwarding"));
        }
    }
    paths.sort();
    Ok(paths)
}

/// Puts everything back, in the order of saving: `ip_forward` first, then what it changed. A link that is gone has no switches.
pub(super) fn restore(record: &Record) -> Vec<Error> {
    let put_back = |saved: &SavedSysctl| match write(&saved.path, &saved.before) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Some(failed(&saved.path)(error)),
        Err(_) | Ok(()) => None,
    };
    record.sysctls.iter().filter_map(put_back).collect()
}
