//! A pod that holds a PPTP tunnel: real pptp-linux, with `callgate-ppp` in the place of pppd.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Context as _;

use super::Cluster;
use super::callgate::CLIENT_IMAGE;
use crate::lab::ping::{self, Pinged};
use crate::lab::ping_gaps::{self, Gaps};
use crate::peers::pptp_client::Link;
use crate::wait;

/// How long ping may take to end.
const SUMMARY: Duration = Duration::from_secs(10);

/// A pod of the test client's image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Till {
    /// Name of the pod.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Node it has to be on.
    pub node: String,
    /// Value of its label `app`.
    pub app: String,
}

impl Till {
    /// A pod of this namespace and name.
    pub fn new(namespace: &str, name: &str, node: &str, app: &str) -> Self {
        let [name, namespace, node, app] = [name, namespace, node, app].map(str::to_owned);
        Self { name, namespace, node, app }
    }

    /// The pod as an object: it sleeps until it is told to dial.
    pub fn object(&self) -> String {
        let Self { name, namespace, node, app } = self;
        format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}, labels: {{app: {app}}}}}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: {CLIENT_IMAGE}
    imagePullPolicy: Never
    command: [sleep, '2147483647']
    securityContext: {{capabilities: {{add: [NET_ADMIN, NET_RAW]}}}}
    volumeMounts: [{{name: tun, mountPath: /dev/net/tun}}]
  volumes:
  - {{name: tun, hostPath: {{path: /dev/net/tun, type: CharDevice}}}}
---
"
        )
    }

    /// Runs a command in it; its stdout.
    ///
    /// # Errors
    /// If it fails.
    pub fn exec(&self, cluster: &Cluster, command: &str) -> anyhow::Result<String> {
        cluster.kubectl().run(&["-n", &self.namespace, "exec", &self.name, "--", "sh", "-c", command])
    }

    /// Dials; returns at once. What the client says is in /tmp/log of the pod.
    ///
    /// # Errors
    /// If the pod does not run.
    pub fn dial(&self, cluster: &Cluster, server: Ipv4Addr) -> anyhow::Result<()> {
        let command = format!("setsid callgate-ppp dial {server} >/dev/null 2>/tmp/log </dev/null &");
        self.exec(cluster, &command).map(drop)
    }

    /// Waits until the tunnel is up; its addresses.
    ///
    /// # Errors
    /// After `limit`, with what the client said.
    pub fn wait_up(&self, cluster: &Cluster, limit: Duration) -> anyhow::Result<Link> {
        let mut said = String::new();
        let up = wait::until(&format!("the tunnel of {} is up", self.name), limit, || {
            said = self.exec(cluster, "cat /tmp/log")?;
            Ok(said.lines().find_map(link))
        });
        up.with_context(|| said.clone())
    }

    /// Pings `target` five times a second for `time`.
    ///
    /// # Errors
    /// If ping says something that is not understood.
    pub fn ping(&self, cluster: &Cluster, target: Ipv4Addr, time: Duration) -> anyhow::Result<Pinged> {
        let count = (time.as_millis() / 200).max(1);
        // Its exit code tells only whether anything came back.
        let said = self.exec(cluster, &format!("ping -q -i 0.2 -W 2 -c {count} {target}; true"))?;
        ping::parse(&said)
    }

    /// Begins to ping `target` five times a second until `pinged`; no connection to the API server is needed meanwhile.
    ///
    /// # Errors
    /// If the pod does not run.
    pub fn begin_to_ping(&self, cluster: &Cluster, target: Ipv4Addr) -> anyhow::Result<()> {
        let ping = format!("echo $$ >/tmp/ping.pid; exec ping -n -i 0.2 {target}");
        self.exec(cluster, &format!("setsid sh -c '{ping}' >/tmp/ping 2>&1 </dev/null &")).map(drop)
    }

    /// Ends what `begin_to_ping` has begun; what came of it.
    ///
    /// # Errors
    /// If ping says something that is not understood.
    pub fn pinged(&self, cluster: &Cluster) -> anyhow::Result<Gaps> {
        self.exec(cluster, "kill -INT $(cat /tmp/ping.pid)")?;
        let said = wait::until("ping says what came of it", SUMMARY, || {
            let said = self.exec(cluster, "cat /tmp/ping")?;
            Ok(said.contains(" packet loss").then_some(said))
        })?;
        ping_gaps::parse(&said).with_context(|| format!("{}: {said}", self.name))
    }

    /// Waits until the client has ended because it was told that the call has.
    ///
    /// # Errors
    /// After `limit`, with what the client said.
    pub fn wait_down(&self, cluster: &Cluster, limit: Duration) -> anyhow::Result<()> {
        let mut said = String::new();
        let down = wait::until_true(&format!("{} knows that its call has ended", self.name), limit, || {
            said = self.exec(cluster, "cat /tmp/log")?;
            Ok(said.contains("callgate-ppp: down "))
        });
        down.with_context(|| said.clone())
    }

    /// Hangs up as a user would, and waits until the client has ended and with it its part of pptp-linux.
    ///
    /// # Errors
    /// If there is none, or it does not end.
    pub fn hang_up(&self, cluster: &Cluster) -> anyhow::Result<()> {
        // Of busybox: there is no pkill in it.
        self.exec(cluster, "killall -TERM callgate-ppp")?;
        self.wait_gone(cluster)
    }

    /// Waits until no client runs in it. Nobody reaps in a pod: what is dead there goes on to have a name.
    ///
    /// # Errors
    /// If one goes on for half a minute, with what still runs.
    pub fn wait_gone(&self, cluster: &Cluster) -> anyhow::Result<()> {
        let command = r#"lives() { grep -hsA2 -E "^Name:[[:space:]]+(callgate-ppp|pptp)$" /proc/[0-9]*/status | grep State | grep -v Z; }
for i in $(seq 300); do lives >/dev/null || exit 0; sleep 0.1; done; ps >&2; exit 1"#;
        self.exec(cluster, command).map(drop).with_context(|| format!("the client of {} goes on", self.name))
    }
}

/// `callgate-ppp: up local L remote R dev D`.
fn link(line: &str) -> Option<Link> {
    let word = |after: &str| line.split(after).nth(1)?.split(' ').next()?.parse().ok();
    line.contains(": up local ").then_some(())?;
    Some(Link { local: word(" local ")?, remote: word(" remote ")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_link_that_is_up_gives_its_addresses() {
        let expected = Link { local: Ipv4Addr::new(10, 99, 1, 2), remote: Ipv4Addr::new(10, 99, 1, 1) };
        assert_eq!(link("callgate-ppp: up local 10.99.1.2 remote 10.99.1.1 dev ppp0"), Some(expected));
        assert_eq!(link("callgate-ppp: down the line was closed"), None);
    }
}
