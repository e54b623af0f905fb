//! The images: what is in each, who runs it, and why it has what it has.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};

use super::image::{File, Image};
use super::{debian, elf, sbom};
use crate::root;

/// What an image is made from.
#[derive(Debug)]
pub(super) struct Recipe {
    pub(super) name: &'static str,
    description: &'static str,
    licences: &'static str,
    user: &'static str,
    /// Where its programs are.
    folder: &'static str,
    /// Package and binary; the first one is the entry point.
    pub(super) programs: &'static [(&'static str, &'static str)],
    /// Has real peers and a shell out of the host's Debian packages.
    pub(super) debian: bool,
}

/// Every image.
pub(super) const RECIPES: &[Recipe] = &[
    Recipe {
        name: "callgate-operator",
        description: "Callgate's operator: watches objects, compiles them, serves every node its snapshot",
        licences: "Apache-2.0",
        // The number that distroless and others use for nobody in particular.
        user: "65532:65532",
        folder: "/",
        programs: &[("callgate-operator", "callgate-operator"), ("callgate-hook", "callgate-hook")],
        debian: false,
    },
    Recipe {
        name: "callgate-dataplane",
        description: "Callgate's data plane: NAT, filtering and the PPTP ALG of one node",
        licences: "Apache-2.0",
        // File capabilities would be needed for anybody else; the chart takes all others away from root.
        user: "0:0",
        folder: "/",
        // The command line reads the agent's socket: `kubectl exec` has no shell to help with here.
        programs: &[("callgate-agent", "callgate-dataplane"), ("kubectl-callgate", "kubectl-callgate")],
        debian: false,
    },
    Recipe {
        name: "callgate-test-client",
        description: "For Callgate's own tests only: pptp-linux, a userland PPP and busybox",
        licences: "Apache-2.0 AND GPL-2.0-only AND GPL-2.0-or-later AND LGPL-2.1-or-later",
        user: "0:0",
        // Found by its name from a shell.
        folder: "/usr/bin/",
        programs: &[("callgate-e2e", "callgate-ppp")],
        debian: true,
    },
];

/// Names for the command line.
pub(super) const NAMES: [&str; 3] = ["callgate-operator", "callgate-dataplane", "callgate-test-client"];

impl Recipe {
    /// Reads what belongs in, out of `bin_dir` and out of Debian.
    pub(super) fn image(&self, bin_dir: &Path) -> Result<Image> {
        let mut files = BTreeMap::new();
        for (_, bin) in self.programs {
            let path = bin_dir.join(bin);
            let content = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            elf::must_be_static(bin, &content)?;
            files.insert(format!("{}{bin}", self.folder), File::program(content));
        }
        let mut entrypoint: Vec<String> =
            self.programs.iter().take(1).map(|(_, bin)| format!("{}{bin}", self.folder)).collect();
        let mut packages = Vec::new();
        if self.debian {
            packages = debian::add_to(&mut files)?;
            entrypoint = vec!["/bin/sh".to_owned()];
        }
        let licence = root().join("LICENSE");
        let licence = std::fs::read(&licence).with_context(|| format!("read {}", licence.display()))?;
        let crates: Vec<&str> = self.programs.iter().map(|(package, _)| *package).collect();
        let sbom = sbom::of(self.name, &crates, &packages)?;
        files.insert(format!("/usr/share/doc/{}/LICENSE", self.name), File::data(licence));
        files.insert(format!("/usr/share/doc/{}/sbom.cdx.json", self.name), File::data(sbom.clone()));
        Ok(Image {
            name: self.name,
            description: self.description,
            licences: self.licences,
            user: self.user,
            entrypoint,
            files,
            sbom,
        })
    }
}
