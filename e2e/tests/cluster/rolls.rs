//! Agents replaced by their like, by a next version, and by the old one again: no control connection is ended, no call is another one;
//! neither where each client has its own control connection nor where they share.

use callgate_e2e::cluster::callgate;
use callgate_e2e::cluster::next_version;

use super::shared::POD;
use super::tunnels::{Noticed, Tunnels};

/// A rule with the field that only the next version has; it selects nothing.
const WITH_FIELD: &str = "
apiVersion: callgate.io/v1alpha1
kind: IpRule
metadata: {name: remarked, namespace: pos}
spec:
  remark: for the next version
  order: 300
  action: NAT
  source: {podSelector: {matchLabels: {app: nobody}}}
  destination: {cidrs: [0.0.0.0/0]}
  services: [{name: all-icmp}]
";

/// Pings, one every 0.2 s, that a tunnel may lose while its agent is replaced where its GRE needs one: 5 s.
const LOST: u32 = 25;

/// By the fast path calls go on while no agent is there: not one packet is lost.
fn goes_on(noticed: &Noticed) {
    if callgate::without_fast_path() {
        return once_and_shortly(noticed);
    }
    assert_eq!(noticed.lost(), [0, 0, 0], "{noticed:?}");
}

/// Each agent was replaced once: until its successor has taken up the calls, their packets are lost, and never again.
fn once_and_shortly(noticed: &Noticed) {
    assert!(noticed.gaps().iter().all(|gaps| *gaps <= 1), "{noticed:?}");
    assert!(noticed.lost().iter().all(|lost| *lost <= LOST), "{noticed:?}");
}

impl Tunnels {
    fn installed(&self) -> (Vec<String>, Vec<String>, String) {
        let images = |component| next_version::images(self.cluster(), component).unwrap();
        let grace =
            self.k("get daemonset callgate-dataplane -o jsonpath={.spec.template.spec.terminationGracePeriodSeconds}");
        (images("operator"), images("dataplane"), grace)
    }

    fn remark(&self) -> Result<String, String> {
        let output = self.shared.kubectl().output(&["apply", "--server-side", "-f", "-"], WITH_FIELD).unwrap();
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(self.shared.k(&format!("-n pos get iprule remarked -o jsonpath={{.spec.{}}}", next_version::FIELD)))
    }
}

fn version(tag: &str, grace: &str) -> (Vec<String>, Vec<String>, String) {
    let image = |name: &str| vec![format!("localhost/{name}:{tag}")];
    (image("callgate-operator"), image("callgate-dataplane"), grace.to_owned())
}

#[test]
fn a_rolled_daemonset_an_upgrade_and_a_rollback_end_no_control_connection_and_no_call() {
    let test = "a_rolled_daemonset_an_upgrade_and_a_rollback_end_no_control_connection_and_no_call";
    let Some(mut tunnels) = Tunnels::get(test) else { return };
    let noticed = tunnels.through("kubectl rollout restart of the agents", |tunnels| {
        tunnels.k("rollout restart daemonset/callgate-dataplane");
        tunnels.edit();
        tunnels.k(&format!("rollout status daemonset/callgate-dataplane {POD}"));
        format!("the edit made during: {:.1?}", tunnels.proved())
    });
    goes_on(&noticed);

    let this = version(env!("CARGO_PKG_VERSION"), "30");
    assert_eq!(tunnels.installed(), this);
    let refused = tunnels.remark().unwrap_err();
    assert!(refused.contains(next_version::FIELD), "{refused}");
    let chart = next_version::make(tunnels.cluster()).unwrap();
    let noticed = tunnels.through(&format!("helm upgrade to {}", next_version::VERSION), |tunnels| {
        callgate::upgrade(tunnels.cluster(), &chart).unwrap();
        tunnels.edit();
        format!("an edit right after: {:.1?}", tunnels.proved())
    });
    goes_on(&noticed);
    assert_eq!(tunnels.installed(), version(next_version::VERSION, "31"));
    assert_eq!(tunnels.remark(), Ok("for the next version".to_owned()));

    let noticed = tunnels.through("helm rollback", |tunnels| {
        let back = ["rollback", "callgate", "--namespace", callgate::NAMESPACE, "--wait", "--timeout", "3m"];
        callgate::helm(tunnels.cluster(), &back).unwrap();
        tunnels.edit();
        format!("an edit right after: {:.1?}", tunnels.proved())
    });
    goes_on(&noticed);
    assert_eq!(tunnels.installed(), this);
    tunnels.end();
}

#[test]
fn a_rolled_daemonset_and_an_upgrade_hand_over_what_clients_share() {
    let test = "a_rolled_daemonset_and_an_upgrade_hand_over_what_clients_share";
    let shared = callgate::CLASSIC.replace("idleTimeout: 0s}", "idleTimeout: 0s, controlConnection: Shared}");
    assert_ne!(shared, *callgate::CLASSIC);
    let Some(mut tunnels) = Tunnels::with(test, &shared) else { return };
    let in_tunnels = tunnels.tills.iter().flat_map(|till| tunnels.calls(till)).filter(|call| call["tunnel"].is_u64());
    assert_eq!(in_tunnels.count(), tunnels.tills.len());
    let noticed = tunnels.through("Shared: rollout restart of the agents", |tunnels| {
        tunnels.k("rollout restart daemonset/callgate-dataplane");
        tunnels.k(&format!("rollout status daemonset/callgate-dataplane {POD}"));
        String::new()
    });
    once_and_shortly(&noticed);
    let chart = next_version::make(tunnels.cluster()).unwrap();
    let noticed = tunnels.through(&format!("Shared: helm upgrade to {}", next_version::VERSION), |tunnels| {
        callgate::upgrade(tunnels.cluster(), &chart).unwrap();
        String::new()
    });
    once_and_shortly(&noticed);
    tunnels.end();
}
