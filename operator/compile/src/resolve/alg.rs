//! PptpAlg objects as the data plane needs them.
use callgate_crds::conditions::Reason;
use callgate_crds::fields::Duration;
use callgate_crds::{ControlConnection, PptpAlgSpec, Validation};
use callgate_proto::model::{self, ObjectKey};

use super::{Algs, Report};
use crate::world::World;

/// After so much silence an end of a control connection sends an Echo-Request, milliseconds (RFC 2637 §3.1.4).
const ECHO_AFTER_MS: u64 = 60_000;

/// A user who waits for an answer is silent for longer, milliseconds.
const SHORT_IDLE_MS: u64 = 10_000;

/// Every PptpAlg with its report; the value is there only where the report is good.
pub(crate) fn algs(world: &World) -> Algs {
    world.algs.iter().map(|(key, object)| (key.clone(), alg(key, &object.spec))).collect()
}

fn alg(key: &ObjectKey, spec: &PptpAlgSpec) -> (Option<model::PptpAlg>, Report) {
    let mut report = Report::default();
    let echo_timeout_ms = millis(&spec.echo_timeout, "spec.echoTimeout", &mut report);
    if (1..=ECHO_AFTER_MS).contains(&echo_timeout_ms) {
        let message = "an end sends an Echo-Request only after 60 s of silence (RFC 2637), so that connections end that are merely \
                       silent: write more than 60s, such as 180s, or 0s for never";
        report.add(Reason::Accepted, "spec.echoTimeout", message);
    }
    let idle_timeout_ms = millis(&spec.idle_timeout, "spec.idleTimeout", &mut report);
    if (1..SHORT_IDLE_MS).contains(&idle_timeout_ms) {
        let message = "calls end at their first pause: write minutes, such as 30m, or 0s for never";
        report.add(Reason::Accepted, "spec.idleTimeout", message);
    }
    let control_connection = match spec.control_connection {
        ControlConnection::PerClient => model::ControlConnection::PerClient,
        ControlConnection::Shared => model::ControlConnection::Shared,
        ControlConnection::Auto => model::ControlConnection::Auto,
    };
    let validation = match spec.validation {
        Validation::Strict => model::Validation::Strict,
        Validation::Permissive => model::Validation::Permissive,
    };
    let resolved = model::PptpAlg {
        key: key.clone(),
        echo_timeout_ms,
        idle_timeout_ms,
        max_calls: spec.max_calls,
        control_connection,
        validation,
    };
    (report.is_good().then_some(resolved), report)
}

fn millis(duration: &Duration, field: &str, report: &mut Report) -> u64 {
    duration.millis().unwrap_or_else(|error| {
        report.add(Reason::Invalid, field, error.to_string());
        0
    })
}
