//! Who may do what at the API server: Callgate's own accounts no more than they need, users only in their own namespace.

use std::collections::BTreeSet;
use std::net::SocketAddrV4;
use std::process::Output;

use callgate_e2e::cluster::inside::{Inside, Opening, Shot};
use callgate_e2e::cluster::sight::Sight;
use callgate_e2e::cluster::{addresses, callgate};
use callgate_e2e::lab::topology::server_address;
use callgate_e2e::wait;

use super::ground::{Ground, conditions, sleeper};
use super::shared::{POD, SOON};

/// What Kubernetes gives every account there is (clusterroles system:basic-user, system:discovery, system:public-info-viewer and
/// system:service-account-issuer-discovery): to ask who one is and what one may, and which kinds there are.
const EVERYBODY: &[&str] = &[
    "[/.well-known/openid-configuration/] [] [get]",
    "[/.well-known/openid-configuration] [] [get]",
    "[/api/*] [] [get]",
    "[/api] [] [get]",
    "[/apis/*] [] [get]",
    "[/apis] [] [get]",
    "[/healthz] [] [get]",
    "[/livez] [] [get]",
    "[/openapi/*] [] [get]",
    "[/openapi] [] [get]",
    "[/openid/v1/jwks/] [] [get]",
    "[/openid/v1/jwks] [] [get]",
    "[/readyz] [] [get]",
    "[/version/] [] [get]",
    "[/version] [] [get]",
    "selfsubjectaccessreviews.authorization.k8s.io [] [] [create]",
    "selfsubjectreviews.authentication.k8s.io [] [] [create]",
    "selfsubjectrulesreviews.authorization.k8s.io [] [] [create]",
];

/// All that an account may do in a namespace, as `resources [names] [verbs]`, without what every account may.
fn rights(ground: &Ground, account: &str, namespace: &str) -> Vec<String> {
    let said = ground.shared.k(&format!("auth can-i --list -n {namespace} --as={account}"));
    let lines = said.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    let mut all: BTreeSet<String> = lines.collect();
    for right in EVERYBODY {
        assert!(all.remove(*right), "{account} may not {right}: {all:#?}");
    }
    all.into_iter().collect()
}

fn account(name: &str) -> String {
    format!("system:serviceaccount:{}:{name}", callgate::NAMESPACE)
}

#[test]
fn the_accounts_of_agents_operator_and_hook_may_do_what_they_need_and_nothing_else() {
    let test = "the_accounts_of_agents_operator_and_hook_may_do_what_they_need_and_nothing_else";
    let Some(ground) = Ground::get(test, "rights") else { return };
    let operator = |namespace| rights(&ground, &account("callgate-operator"), namespace);
    let others = [
        "egressnodes.callgate.io [] [] [create patch]",
        "egressnodes.callgate.io/status [] [] [patch]",
        "events.events.k8s.io [] [] [create patch]",
        "iprules.callgate.io [] [] [list watch]",
        "iprules.callgate.io/status [] [] [patch]",
        "ipservices.callgate.io [] [] [list watch]",
        "ipservices.callgate.io/status [] [] [patch]",
        "namespaces [] [] [list watch]",
        "nodes [] [] [list watch]",
        "pods [] [] [list watch]",
        "pptpalgs.callgate.io [] [] [list watch]",
        "pptpalgs.callgate.io/status [] [] [patch]",
        "servicecidrs.networking.k8s.io [] [] [list watch]",
        "tokenreviews.authentication.k8s.io [] [] [create]",
    ];
    let own = [
        "configmaps [] [callgate-ca] [get create patch]",
        "configmaps [] [callgate-last-good] [get create patch]",
        "endpointslices.discovery.k8s.io [] [callgate-operator] [create patch]",
        "leases.coordination.k8s.io [] [callgate-operator] [get create update patch]",
        "secrets [] [callgate-ca] [get create patch]",
        "services [] [callgate-operator] [get]",
    ];
    let mut all: Vec<&str> = others.iter().chain(&own).copied().collect();
    all.sort_unstable();
    assert_eq!(operator("rights"), others);
    assert_eq!(operator(callgate::NAMESPACE), all);
    let predefined = [
        "ipservices.callgate.io [] [] [list create patch delete]",
        "pptpalgs.callgate.io [] [] [list create patch delete]",
        "serviceaccounts [] [callgate-operator] [get]",
    ];
    let selftest = [
        "iprules.callgate.io [] [callgate-selftest] [get create patch delete]",
        "ipservices.callgate.io [] [callgate-selftest] [get create patch delete]",
    ];
    let system = callgate::NAMESPACE;
    let of = |name, namespace| rights(&ground, &account(name), namespace);
    for name in ["callgate-dataplane", "callgate-predefined", "callgate-selftest"] {
        // The hooks' accounts have rights only while a hook runs, and none does.
        assert_eq!((of(name, "rights").len(), of(name, system).len()), (0, 0), "{name}");
    }
    let roles = roles_of_hooks(&ground);
    ground.apply(&roles);
    let found = ["callgate-predefined", "callgate-selftest"].map(|name| [of(name, "rights"), of(name, system)]);
    for (found, expected) in found.iter().zip([&predefined[..], &selftest]) {
        assert_eq!(found[0], Vec::<String>::new());
        assert_eq!(found[1], expected);
    }
    ground.shared.kubectl().output(&["delete", "-f", "-"], &roles).unwrap();
    ground.end();
}

/// Roles and bindings that the chart makes while a hook runs.
fn roles_of_hooks(ground: &Ground) -> String {
    let (chart, mut helm) = (callgate::chart(), ground.shared.kubectl().command("helm").unwrap());
    helm.args(["template", "callgate", chart.to_str().unwrap(), "--namespace", callgate::NAMESPACE]);
    helm.args(["--kube-version", "1.33.0", "-s", "templates/predefined.yaml", "-s", "templates/tests/selftest.yaml"]);
    let output = helm.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let roles = text.split("\n---").filter(|object| object.contains("\nkind: Role"));
    roles.collect::<Vec<_>>().join("\n---\n")
}

/// What the API server answers to a GET with this token: the status.
fn status(ground: &Ground, token: &str, path: &str) -> String {
    let cluster = ground.shared.cluster();
    let authority = cluster.pki().join("ca.crt");
    let url = format!("{}{path}", addresses::api());
    let output = (cluster.machines[0].node.command("curl"))
        .args(["-sS", "--max-time", "8", "-o", "/dev/null", "-w", "%{http_code}", "--cacert"])
        .arg(authority)
        .args(["-H", &format!("authorization: Bearer {token}"), &url])
        .output()
        .unwrap();
    assert!(output.status.success(), "{path}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn with_an_agents_token_nothing_can_be_read_at_the_api_server() {
    let Some(ground) = Ground::get("with_an_agents_token_nothing_can_be_read_at_the_api_server", "rights") else {
        return;
    };
    let k = |words: &str| ground.shared.k(&format!("-n {} {words}", callgate::NAMESPACE)).trim().to_owned();
    let uid = k(
        "get pod -l app.kubernetes.io/component=dataplane --field-selector spec.nodeName=n1 -o jsonpath={.items[0].metadata.uid}",
    );
    // As whoever breaks into the pod finds it.
    let file = format!("/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~projected/token/token");
    let own = ground.shared.cluster().machines[0].node.run("cat", &[&file]).unwrap();
    // As nobody gives it to an agent: for the API server itself.
    let strong = k("create token callgate-dataplane");
    let paths = [
        "/api/v1/pods",
        "/api/v1/nodes/n1",
        "/api/v1/namespaces",
        "/api/v1/namespaces/callgate-system/secrets",
        "/api/v1/namespaces/callgate-system/secrets/callgate-ca",
        "/api/v1/namespaces/callgate-system/configmaps/callgate-ca",
        "/apis/callgate.io/v1alpha1/iprules",
        "/apis/callgate.io/v1alpha1/egressnodes/n1",
        "/apis/coordination.k8s.io/v1/namespaces/callgate-system/leases/callgate-operator",
    ];
    for path in paths {
        let said = [own.trim(), strong.as_str()].map(|token| status(&ground, token, path));
        assert_eq!(said, ["401", "403"], "{path}");
    }
    ground.end();
}

/// Two namespaces, a pod that looks the same in each, users with the cluster's own roles in the first.
struct Neighbours {
    ground: Ground,
    here: Inside,
    there: Inside,
    token: u32,
}

const THERE: &str = "rights-there";

/// Of namespace `namespace`; `source` is what it selects.
fn rule(namespace: &str, source: &str) -> String {
    format!(
        "apiVersion: callgate.io/v1alpha1\nkind: IpRule\nmetadata: {{name: mine, namespace: {namespace}}}\nspec: {{order: 100, action: NAT, source: {source}, services: [{{name: all-udp}}]}}\n"
    )
}

const TILLS: &str = "{podSelector: {matchLabels: {app: till}}}";

impl Neighbours {
    fn get(test: &str) -> Option<Self> {
        let ground = Ground::get(test, "rights")?;
        ground.shared.namespace(THERE);
        for (user, role) in [("alice", "edit"), ("bob", "view"), ("carol", "admin")] {
            ground.k(&format!("create rolebinding {user} --clusterrole={role} --user={user}"));
        }
        let here = ground.pod("p", "n1", "till");
        ground.apply(&sleeper(THERE, "p", "n1", "till"));
        ground.shared.k(&format!("-n {THERE} wait --for=condition=Ready pod/p {POD}"));
        let address = ground.shared.k(&format!("-n {THERE} get pod p -o jsonpath={{.status.podIP}}"));
        let there = Inside::of(&ground.shared.cluster().machines[0], address.parse().unwrap()).unwrap();
        Some(Self { ground, here, there, token: 0x5000_0000 })
    }

    fn ask(&self, user: &str, words: &str, input: &str) -> Output {
        let words = format!("--as={user} {words}");
        self.ground.shared.kubectl().output(&words.split_whitespace().collect::<Vec<_>>(), input).unwrap()
    }

    fn may(&self, user: &str, words: &str, input: &str) {
        let output = self.ask(user, words, input);
        assert!(output.status.success(), "{user}: {words}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn may_not(&self, user: &str, words: &str, input: &str) {
        let output = self.ask(user, words, input);
        let said = String::from_utf8_lossy(&output.stderr);
        let refused = !output.status.success() && said.contains("(Forbidden)") && said.contains(user);
        assert!(refused, "{user}: {words}: {said}{}", String::from_utf8_lossy(&output.stdout));
    }

    /// Whether each pod's packets leave under the node's address: the one here, the one there. They leave in any case.
    fn under_nodes_address(&mut self) -> [bool; 2] {
        let sight = Sight::start(self.ground.shared.cluster()).unwrap();
        let to = SocketAddrV4::new(server_address(0), 7);
        let shots = [0, 1].map(|number| Shot { opening: Opening::Udp, to, token: self.token + number });
        self.token += 2;
        for (inside, shot) in [&self.here, &self.there].into_iter().zip(shots) {
            inside.send(shot).unwrap();
        }
        let sources = sight.sources(&shots.map(|shot| (shot, true)));
        let (node, own) = (addresses::node(0), [self.here.address, self.there.address]);
        [0, 1].map(|number| {
            let source = sources[number];
            assert!(source == Some(node) || source == Some(own[number]), "{source:?}");
            source == Some(node)
        })
    }
}

#[test]
fn a_user_of_a_namespace_edits_rules_there_and_reaches_no_pod_of_another() {
    let test = "a_user_of_a_namespace_edits_rules_there_and_reaches_no_pod_of_another";
    let Some(mut scene) = Neighbours::get(test) else { return };
    assert_eq!(scene.under_nodes_address(), [false, false]);
    for user in ["alice", "carol"] {
        let applied = rule("rights", TILLS);
        scene.may(user, "apply -f -", &applied);
        scene.ground.k(&format!("wait --for=condition=Programmed iprule/mine {POD}"));
        assert_eq!(
            scene.under_nodes_address(),
            [true, false],
            "{user}'s rule selects the pod there too, if only by its labels"
        );
        scene.may(user, "-n rights get iprules,ipservices,pptpalgs", "");
        scene.may(user, "-n rights patch iprule mine --type=merge -p {\"spec\":{\"order\":101}}", "");
        scene.may(user, "-n rights delete iprule mine", "");

        scene.may_not(user, "apply -f -", &rule(THERE, TILLS));
        scene.ground.apply(&rule(THERE, TILLS));
        scene.may_not(user, &format!("-n {THERE} get iprules"), "");
        scene.may_not(user, "get iprules -A", "");
        scene.may_not(
            user,
            &format!("-n {THERE} patch iprule mine --type=merge -p {{\"spec\":{{\"order\":101}}}}"),
            "",
        );
        scene.may_not(user, &format!("-n {THERE} delete iprule mine"), "");
        scene.may_not(user, &format!("-n {} get ipservices", callgate::NAMESPACE), "");
        scene.may_not(user, "get egressnodes", "");
        scene.may_not(user, "patch egressnode n1 --type=merge -p {\"metadata\":{\"labels\":{\"mine\":\"yes\"}}}", "");
        scene.may_not(user, "delete egressnode n1", "");
        scene.ground.shared.k(&format!("-n {THERE} delete iprule mine"));
    }

    // Not by what is the operator's to say, and not by selecting more than one's own.
    scene.may("alice", "apply -f -", &rule("rights", TILLS));
    let status = "{\"status\":{\"conditions\":[]}}";
    scene.may_not("alice", &format!("-n rights patch iprule mine --subresource=status --type=merge -p {status}"), "");
    scene.may("alice", "-n rights delete iprule mine", "");
    let cidr = format!("{{cidrs: [{}/32]}}", scene.there.address);
    for source in ["{podSelector: {}, namespaceSelector: {}}", &cidr] {
        scene.may("alice", "apply -f -", &rule("rights", source));
        let mut said = Vec::new();
        wait::until_true("the rule is not accepted", SOON, || {
            said = conditions(&scene.ground.object("iprule/mine"));
            Ok(said.iter().any(|condition| condition.starts_with("Accepted=False")))
        })
        .unwrap();
        println!("{source}: {said:?}");
        assert_eq!(scene.under_nodes_address(), [false, false], "{source}: {said:?}");
        scene.may("alice", "-n rights delete iprule mine", "");
    }

    scene.ground.apply(&rule("rights", TILLS));
    scene.may("bob", "-n rights get iprules,ipservices,pptpalgs", "");
    scene.may_not("bob", "-n rights patch iprule mine --type=merge -p {\"spec\":{\"order\":101}}", "");
    scene.may_not("bob", "-n rights delete iprule mine", "");
    scene.may_not("bob", "create -f -", &rule("rights", TILLS).replace("mine", "another"));
    scene.ground.shared.k(&format!("delete namespace {THERE} --wait {POD}"));
    scene.ground.end();
}
