//! Whoever is not the agent of its own node is refused by the operator, told why, logged and counted.

use std::collections::BTreeMap;
use std::fs;
use std::process::Output;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use callgate_e2e::cluster::{Cluster, callgate};
use callgate_e2e::wait;
use rcgen::{KeyPair, SigningKey as _};
use serde_json::{Value, json};

use super::ground::Ground;
use super::shared::SOON;

/// Name in the operator's certificate.
const NAME: &str = "callgate-operator.callgate-system.svc";
const AUDIENCE: &str = "callgate-operator";

/// The leader as its callers see it.
struct Operator<'a> {
    ground: &'a Ground,
    pod: String,
    address: String,
    /// File with the authority it shows.
    authority: String,
}

impl<'a> Operator<'a> {
    fn find(ground: &'a Ground) -> Self {
        let k = |words: &str| ground.shared.k(&format!("-n {} {words}", callgate::NAMESPACE)).trim().to_owned();
        let pod = callgate::leader(ground.shared.cluster()).unwrap();
        let address = callgate::leader_address(ground.shared.cluster()).unwrap();
        let authority = ground.shared.cluster().dir.join("operator-ca.crt");
        fs::write(&authority, k("get configmap callgate-ca -o jsonpath={.data.ca\\.crt}")).unwrap();
        Self { ground, pod, address, authority: authority.to_str().unwrap().to_owned() }
    }

    /// curl from node n1, with these arguments before the URL.
    fn curl(&self, args: &[&str], url: &str) -> Output {
        let node = &self.ground.shared.cluster().machines[0].node;
        let common = ["-sS", "--max-time", "8"];
        node.command("curl").args(common).args(args).arg(url).output().unwrap()
    }

    /// What the operator answers to an agent that says it runs on n1 and shows `token`: gRPC's code and message.
    fn attach(&self, token: Option<&str>) -> (String, String) {
        let cluster = self.ground.shared.cluster();
        let hello = cluster.dir.join("hello");
        // A gRPC frame: not compressed, its length, AgentMessage {hello: {node: "n1"}}.
        fs::write(&hello, [&[0, 0, 0, 0, 6][..], &[0x0a, 4, 0x2a, 2], b"n1"].concat()).unwrap();
        let (resolve, data) = (format!("{NAME}:9443:{}", self.address), format!("@{}", hello.display()));
        let header = token.map(|token| format!("authorization: Bearer {token}"));
        let mut args = vec!["--http2", "--cacert", &self.authority, "--resolve", &resolve, "--data-binary", &data];
        args.extend(["-D", "-", "-H", "content-type: application/grpc", "-H", "te: trailers"]);
        args.extend(header.iter().flat_map(|header| ["-H", header.as_str()]));
        let output = self.curl(&args, &format!("https://{NAME}:9443/callgate.v1.Control/Attach"));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let of = |name: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.trim_start_matches(':').trim().replace("%20", " ").replace("%22", "\"").replace("%2C", ",")
        };
        (of("grpc-status"), of("grpc-message"))
    }

    /// What it has counted so far of refusals, by reason, and of handshakes.
    fn counted(&self) -> BTreeMap<String, u64> {
        let output = self.curl(&[], &format!("http://{}:8080/metrics", self.address));
        let text = String::from_utf8(output.stdout).unwrap();
        let wanted =
            ["callgate_operator_agent_refusals_total{reason=\"", "callgate_operator_tls_handshakes_failed_total"];
        let pair = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            let name = name
                .strip_prefix(wanted[0])
                .map(|rest| rest.trim_end_matches("\"}").to_owned())
                .or_else(|| name.starts_with(wanted[1]).then(|| "handshake".to_owned()))?;
            Some((name, value.parse().ok()?))
        };
        text.lines().filter_map(pair).collect()
    }

    /// Counters that have moved since, and by how much.
    fn moved(&self, before: &BTreeMap<String, u64>) -> Vec<(String, u64)> {
        let now = self.counted().into_iter();
        let by = now.map(|(name, value)| (value - before.get(&name).copied().unwrap_or(0), name));
        by.filter(|(by, _)| *by > 0).map(|(by, name)| (name, by)).collect()
    }

    /// How many lines of its log have both texts.
    fn logged(&self, text: &str, reason: &str) -> usize {
        let log = self.ground.shared.k(&format!("-n {} logs {}", callgate::NAMESPACE, self.pod));
        log.lines().filter(|line| line.contains(text) && line.contains(reason)).count()
    }

    /// Waits until there is a line more than `before`, which the kubelet may be late to tell of; there is one and not two.
    fn logs_one_more(&self, text: &str, reason: &str, before: usize, what: &str) {
        wait::until_true(&format!("{what} is logged"), SOON, || Ok(self.logged(text, reason) > before)).unwrap();
        assert_eq!(self.logged(text, reason), before + 1, "{what}");
    }

    /// `attempt` gets no further than TLS: that is logged and counted, once.
    fn shakes_no_hands(&self, what: &str, attempt: impl FnOnce()) {
        let (before, logged) = (self.counted(), self.logged("TLS handshake refused", ""));
        attempt();
        self.logs_one_more("TLS handshake refused", "", logged, what);
        assert_eq!(self.moved(&before), [("handshake".to_owned(), 1)], "{what}");
    }
}

/// A token of `account`, for `audience`, bound to `pod` of Callgate's namespace.
fn token(ground: &Ground, account: &str, audience: &str, pod: Option<&str>) -> String {
    let bound = pod.map(|pod| format!("--bound-object-kind Pod --bound-object-name {pod}")).unwrap_or_default();
    let words = format!("-n {} create token {account} --audience {audience} {bound}", callgate::NAMESPACE);
    ground.shared.k(words.trim()).trim().to_owned()
}

/// The same token as the cluster itself would have signed it an hour and more ago: its key, other times.
fn aged(cluster: &Cluster, token: &str) -> String {
    let payload = token.split('.').nth(1).unwrap();
    let mut claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
    let now = claims["iat"].as_i64().unwrap();
    for (claim, before) in [("iat", 7200), ("nbf", 7200), ("exp", 3600)] {
        claims[claim] = json!(now - before);
    }
    let key = fs::read_to_string(cluster.pki().join("service-accounts.key")).unwrap();
    let key = KeyPair::from_pem(&key).unwrap();
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&json!({"alg": "ES256"})), part(&claims));
    let signature = raw(&key.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// An ECDSA signature as RFC 7518 section 3.4 has it: both numbers, 32 octets each. `der` is SEQUENCE {INTEGER, INTEGER}.
fn raw(der: &[u8]) -> Vec<u8> {
    let mut rest = &der[2..];
    let mut numbers = Vec::new();
    for _ in 0..2 {
        let (number, after) = rest[2..].split_at(usize::from(rest[1]));
        let number: Vec<u8> = number.iter().copied().skip_while(|octet| *octet == 0).collect();
        numbers.extend(vec![0; 32 - number.len()]);
        numbers.extend(number);
        rest = after;
    }
    numbers
}

#[test]
fn whoever_is_not_the_agent_of_its_node_is_refused_told_why_logged_and_counted() {
    let test = "whoever_is_not_the_agent_of_its_node_is_refused_told_why_logged_and_counted";
    let Some(ground) = Ground::get(test, "tokens") else { return };
    let operator = Operator::find(&ground);
    // Who has just got the Lease listens a moment later.
    wait::until_true("the leader serves", SOON, || Ok(!operator.attach(None).0.is_empty())).unwrap();
    let agent = |node: &str| callgate::agent(ground.shared.cluster(), node).unwrap();
    let (own, others) = (agent("n1"), agent("n2"));
    let of_agents = "callgate-dataplane";
    let good = token(&ground, of_agents, AUDIENCE, Some(&own));
    let unauthenticated = "16";
    let denied = "7";
    let audience = "the token was refused: [invalid bearer token, token audiences [\"elsewhere\"] is invalid for the target audiences [\"callgate-operator\"]";
    let cases = [
        ("no token", None, "no_token", unauthenticated, "no token: send it as metadata"),
        ("not a token", Some("abc".to_owned()), "not_authenticated", unauthenticated, "the token was refused: "),
        (
            "another audience",
            Some(token(&ground, of_agents, "elsewhere", Some(&own))),
            "not_authenticated",
            unauthenticated,
            audience,
        ),
        (
            "expired",
            Some(aged(ground.shared.cluster(), &good)),
            "not_authenticated",
            unauthenticated,
            "the token was refused: [invalid bearer token, service account token has expired",
        ),
        (
            "another account",
            Some(token(&ground, "callgate-operator", AUDIENCE, Some(&operator.pod))),
            "not_an_agent",
            denied,
            "\"system:serviceaccount:callgate-system:callgate-operator\" is not the service account of the agents",
        ),
        (
            "bound to no node",
            Some(token(&ground, of_agents, AUDIENCE, None)),
            "not_bound",
            denied,
            "the token is bound to no node",
        ),
        (
            "another node",
            Some(token(&ground, of_agents, AUDIENCE, Some(&others))),
            "other_node",
            denied,
            "the token is of node n2, and the agent runs on node n1",
        ),
    ];
    for (what, token, reason, code, message) in cases {
        let (before, logged, said_code, said) = loop {
            let (before, logged) = (operator.counted(), operator.logged("an agent was refused", reason));
            let (code, said) = operator.attach(token.as_deref());
            if !code.is_empty() {
                break (before, logged, code, said);
            }
            // Refused before curl had sent all of its request, which then tells nothing: counted and logged all the same.
            assert_eq!(operator.moved(&before), [(reason.to_owned(), 1)], "{what}: curl has no answer");
            operator.logs_one_more("an agent was refused", reason, logged, what);
        };
        println!("{what:<18} {said_code:>3} {said}");
        assert_eq!((said_code.as_str(), said.starts_with(message)), (code, true), "{what}: {said}");
        assert_eq!(operator.moved(&before), [(reason.to_owned(), 1)], "{what}");
        operator.logs_one_more("an agent was refused", reason, logged, what);
    }

    // Before any token is looked at.
    operator.shakes_no_hands("plain TCP", || {
        let plain = operator.curl(&["--http2-prior-knowledge"], &format!("http://{}:9443/", operator.address));
        assert!(!plain.status.success(), "plain TCP was answered");
    });
    operator.shakes_no_hands("another authority", || {
        let foreign = ground.shared.cluster().pki().join("ca.crt");
        let resolve = format!("{NAME}:9443:{}", operator.address);
        let args = ["--cacert", foreign.to_str().unwrap(), "--resolve", &resolve];
        let wrong = operator.curl(&args, &format!("https://{NAME}:9443/"));
        assert_eq!(wrong.status.code(), Some(60), "curl takes a certificate of another authority: {wrong:?}");
    });
    ground.end();
}
