//! Changing manifests of a running agent, and knowing when it has taken them up.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use crate::gateway::callgate::Callgate;
use crate::lab::node::Node;
use crate::wait;

/// How long a change may take.
pub const LIMIT: Duration = Duration::from_secs(20);

/// What `kubectl-callgate status -o json` says.
#[derive(Debug, Clone)]
pub struct Status(pub Value);

impl Status {
    /// Asks the agent.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn of(callgate: &Callgate, gw: &Node) -> anyhow::Result<Self> {
        let text = callgate.kubectl(gw, &["status", "--all", "-o", "json"])?;
        Ok(Self(serde_json::from_str(&text).with_context(|| text.clone())?))
    }

    /// Whether the last configuration is in force.
    pub fn programmed(&self) -> bool {
        self.0["programmed"]["value"] == true
    }

    /// A counter.
    ///
    /// # Errors
    /// If there is none of the name.
    pub fn counter(&self, name: &str) -> anyhow::Result<u64> {
        self.0["counters"][name].as_u64().with_context(|| format!("there is no counter {name}"))
    }

    /// Everything that is said about objects and files: one line each, `WHERE: [FIELD ]REASON: MESSAGE`.
    pub fn says(&self) -> Vec<String> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut lines = Vec::new();
        for problem in self.0["problems"].as_array().into_iter().flatten() {
            let [file, object, field, message] =
                ["file", "object", "field", "message"].map(|name| text(&problem[name]));
            lines.push(format!("{file}: {object} {field}: {message}"));
        }
        for object in self.0["objects"].as_array().into_iter().flatten() {
            let name = ["kind", "namespace", "name"].map(|name| text(&object[name])).join("/");
            for condition in object["conditions"].as_array().into_iter().flatten() {
                lines.push(format!("{name}: {}: {}", text(&condition["reason"]), text(&condition["message"])));
            }
        }
        lines
    }

    /// Reason of a condition of an object, such as (`IpRule`, `pos`, `web`), `Accepted`.
    pub fn reason(&self, object: (&str, &str, &str), condition: &str) -> Option<String> {
        let (kind, namespace, name) = object;
        let objects = self.0["objects"].as_array()?;
        let found = objects.iter().find(|o| o["kind"] == kind && o["namespace"] == namespace && o["name"] == name)?;
        let conditions = found["conditions"].as_array()?;
        Some(conditions.iter().find(|c| c["type"] == condition)?["reason"].as_str()?.to_owned())
    }
}

/// Makes a change in the directory, and waits until the agent has read it and it is in force.
///
/// # Errors
/// If the change fails, or is not in force in time.
pub fn change(
    callgate: &Callgate,
    gw: &Node,
    work: impl FnOnce(&Path) -> std::io::Result<()>,
) -> anyhow::Result<Status> {
    let before = Status::of(callgate, gw)?.counter("applies")?;
    work(&callgate.manifests).context("change the manifests")?;
    wait::until("the changed manifests are in force", LIMIT, || {
        let status = Status::of(callgate, gw)?;
        Ok((status.counter("applies")? > before && status.programmed()).then_some(status))
    })
    .with_context(|| callgate.log())
}

/// Writes a manifest and waits until it is in force.
///
/// # Errors
/// As `change`.
pub fn put(callgate: &Callgate, gw: &Node, file: &str, text: &str) -> anyhow::Result<Status> {
    // In one step, so that one change is one apply.
    change(callgate, gw, |dir| {
        let new = dir.join(format!(".{file}.new"));
        fs::write(&new, text)?;
        fs::rename(new, dir.join(file))
    })
}

/// Removes a manifest and waits until that is in force.
///
/// # Errors
/// As `change`.
pub fn remove(callgate: &Callgate, gw: &Node, file: &str) -> anyhow::Result<Status> {
    change(callgate, gw, |dir| fs::remove_file(dir.join(file)))
}

/// A document: kind, name (in namespace `pos`), spec in YAML's flow style.
pub fn document(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: callgate.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}, namespace: pos}}\nspec: {{{spec}}}\n"
    )
}

/// A rule: name, order, action, source networks, destination (YAML), services by name.
pub fn rule(name: &str, order: u32, action: &str, from: &str, to: &str, services: &[&str]) -> String {
    let services: Vec<String> = services.iter().map(|name| format!("{{name: {name}}}")).collect();
    let spec = format!(
        "order: {order}, action: {action}, source: {{cidrs: [{from}]}}, destination: {{{to}}}, services: [{}]",
        services.join(", ")
    );
    document("IpRule", name, &spec)
}
