//! `PptpAlg`: how PPTP is treated.

// KubeSchema copies the struct, `pub` included, into the body of a function.
#![allow(unreachable_pub)]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ObjectStatus;
use crate::fields::Duration;

/// What is wanted of the ALG.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "callgate.io",
    version = "v1alpha1",
    kind = "PptpAlg",
    plural = "pptpalgs",
    singular = "pptpalg",
    shortname = "palg",
    category = "callgate",
    namespaced,
    status = "ObjectStatus",
    derive = "PartialEq",
    doc = "How PPTP is treated: an application level gateway that a Service names in `algRef`. It rewrites the Call IDs of the control connection (RFC 2637) and of the GRE packets, so that many clients behind one address hold tunnels to the same server.",
    printcolumn = r#"{"name":"Echo","type":"string","jsonPath":".spec.echoTimeout","description":"Longest silence of a control connection"}"#,
    printcolumn = r#"{"name":"Idle","type":"string","jsonPath":".spec.idleTimeout","description":"Longest silence of a call"}"#,
    printcolumn = r#"{"name":"Accepted","type":"string","jsonPath":".status.conditions[?(@.type==\"Accepted\")].status"}"#,
    printcolumn = r#"{"name":"Programmed","type":"string","jsonPath":".status.conditions[?(@.type==\"Programmed\")].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.reason","description":"The reason that matters most"}"#,
    printcolumn = r#"{"name":"Nodes","type":"string","jsonPath":".status.nodes","description":"Nodes that run this generation, of those that must"}"#,
    printcolumn = r#"{"name":"Calls","type":"integer","jsonPath":".status.liveCalls","description":"Live calls through this ALG"}"#,
    printcolumn = r#"{"name":"Max","type":"integer","jsonPath":".spec.maxCalls","priority":1,"description":"Limit of live calls; 0 is without limit"}"#,
    printcolumn = r#"{"name":"Control","type":"string","jsonPath":".spec.controlConnection","priority":1}"#,
    printcolumn = r#"{"name":"Validation","type":"string","jsonPath":".spec.validation","priority":1}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.conditions[?(@.type==\"Accepted\")].message","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct PptpAlgSpec {
    /// Longest silence of a control connection before it is taken for dead, its calls ended and both ends told.
    /// RFC 2637 has either end send an Echo-Request after 60 seconds of silence, so stay well above one minute. Default 180s; 0s is never.
    #[serde(default = "default_echo_timeout")]
    pub echo_timeout: Duration,

    /// Longest time without user traffic before a call is ended and both ends told. Default 0s, which is never.
    #[serde(default = "default_idle_timeout")]
    pub idle_timeout: Duration,

    /// Live calls at once, over all control connections of this ALG. A call beyond it is refused, the client being told
    /// "no resources". Default 0, which is without limit.
    #[serde(default)]
    #[schemars(range(max = 4_294_967_295_u32), extend("format" = "int64"))]
    pub max_calls: u32,

    /// How control connections reach the server. PerClient: each client's own is passed on, rewritten in the path.
    /// Shared: the calls of all clients are carried over as few connections as the server allows. Auto: each client
    /// its own until the server refuses a second one from the same address, then as Shared. Calls of all live through a
    /// planned restart of the agent; when it is killed those of Shared and Auto end. Default PerClient.
    #[serde(default)]
    pub control_connection: ControlConnection,

    /// How strictly control messages are checked. Strict: a malformed message closes its control connection.
    /// Permissive: it is counted, and the connection goes on wherever it can be told where the next one starts; what is about a
    /// call and cannot be translated is not passed on. Default Strict.
    #[serde(default)]
    pub validation: Validation,
}

/// How control connections reach the server.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ControlConnection {
    /// Each client's own, rewritten in the path.
    #[default]
    PerClient,
    /// The calls of all clients over as few as the server allows.
    Shared,
    /// Each client's own until the server refuses a second one, then as Shared.
    Auto,
}

/// How strictly control messages are checked.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Validation {
    /// A malformed message closes its control connection.
    #[default]
    Strict,
    /// Counted; the connection goes on where it can be framed. Passed on but for what is about a call.
    Permissive,
}

/// Three times the 60 s of silence after which RFC 2637 §1.4 has a peer send an Echo-Request.
fn default_echo_timeout() -> Duration {
    Duration::from("180s")
}

/// Never: a till may keep a tunnel for a payment once a day.
fn default_idle_timeout() -> Duration {
    Duration::from("0s")
}
