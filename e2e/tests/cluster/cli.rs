//! kubectl-callgate asks the cluster: what it says is what agents say and packets do, and what is in its way it names.

use std::fs;
use std::path::Path;
use std::time::Duration;

use callgate_e2e::cluster::machine::Machine;
use callgate_e2e::cluster::till::Till;
use callgate_e2e::cluster::{addresses, callgate};
use callgate_e2e::lab::topology::server_address;
use callgate_e2e::peers::program;
use callgate_e2e::wait;
use serde_json::{Value, json};

use super::ground::Ground;
use super::shared::{POD, SOON};

const RULE: &str = "
apiVersion: callgate.io/v1alpha1
kind: IpRule
metadata: {name: tills, namespace: cli}
spec: {order: 100, action: NAT, source: {podSelector: {matchLabels: {app: till}}}, services: [{name: pptp-ctl}]}
";

/// How long a tunnel may take.
const UP: Duration = Duration::from_secs(30);

/// Exit code, stdout, stderr.
type Said = (Option<i32>, String, String);

/// Runs it in the control plane's network, with this kubeconfig or the administrator's.
fn asked(ground: &Ground, kubeconfig: Option<&Path>, words: &str) -> Said {
    let cluster = ground.shared.cluster();
    let mut command = cluster.control_plane.command(program("kubectl-callgate").unwrap());
    command.env("KUBECONFIG", kubeconfig.unwrap_or(&cluster.kubeconfig)).env("HOME", &cluster.dir);
    command.args(words.split_whitespace());
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn answer(ground: &Ground, words: &str) -> Value {
    let (code, out, err) = asked(ground, None, &format!("{words} -o json"));
    assert_eq!((code, err.as_str()), (Some(0), ""), "{words}: {out}");
    serde_json::from_str(&out).unwrap()
}

/// What of a call neither counts up nor is known to the operator alone.
fn stable(call: &Value) -> Value {
    let fields = ["client", "server", "external", "pnsCallId", "pnsCallIdOutside", "pacCallId", "state", "rule", "alg"];
    fields.iter().map(|field| call[*field].clone()).collect()
}

/// What each node's agent says of its own calls, with the node's name.
fn of_agents(ground: &Ground) -> Vec<(String, Value)> {
    let machines = &ground.shared.cluster().machines;
    let of = |machine: &Machine| {
        let calls = callgate::calls(machine).unwrap();
        calls.iter().map(|call| (machine.node.name.clone(), stable(call))).collect::<Vec<_>>()
    };
    let mut all: Vec<_> = machines.iter().flat_map(of).collect();
    all.sort_by_key(|(node, call)| (node.clone(), call.to_string()));
    all
}

/// A kubeconfig of a service account that may do nothing.
fn of_nobody(ground: &Ground) -> std::path::PathBuf {
    ground.k("create serviceaccount nobody");
    let token = ground.k("create token nobody");
    let config = ground.shared.k("config view --raw -o json");
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["users"][0]["user"] = json!({"token": token.trim()});
    let file = ground.shared.cluster().dir.join("nobody.kubeconfig");
    fs::write(&file, config.to_string()).unwrap();
    file
}

#[test]
fn the_cluster_answers_status_calls_and_explain_and_says_what_is_in_the_way() {
    let test = "the_cluster_answers_status_calls_and_explain_and_says_what_is_in_the_way";
    let Some(ground) = Ground::get(test, "cli") else { return };
    let cluster = ground.shared.cluster();
    let till = |name: &str, node: &str, app: &str| Till::new("cli", name, node, app);
    let tills = [till("a", "n1", "till"), till("b", "n2", "till")];
    let other = till("other", "n1", "kiosk");
    ground.apply(&tills.iter().chain([&other]).map(Till::object).collect::<String>());
    ground.k(&format!("wait --for=condition=Ready pod --all {POD}"));
    ground.apply(RULE);
    ground.k(&format!("wait --for=condition=Programmed iprule/tills {POD}"));
    for till in &tills {
        till.dial(cluster, server_address(0)).unwrap();
        till.wait_up(cluster, UP).unwrap();
    }

    // The calls: those of the agents, each with its node and its pod.
    let calls = answer(&ground, "calls");
    let calls = calls["calls"].as_array().unwrap();
    let mut said: Vec<_> = calls.iter().map(|call| (call["node"].as_str().unwrap().to_owned(), stable(call))).collect();
    said.sort_by_key(|(node, call)| (node.clone(), call.to_string()));
    assert_eq!(said, of_agents(&ground));
    let mut whose: Vec<_> = calls.iter().map(|call| (call["node"].clone(), call["pod"].clone())).collect();
    whose.sort_by_key(|pair| pair.0.to_string());
    assert_eq!(whose, [(json!("n1"), json!("cli/a")), (json!("n2"), json!("cli/b"))]);
    assert_eq!(answer(&ground, "calls -n elsewhere")["calls"], json!([]));

    // The status: the rule and both nodes.
    let mut status = Value::Null;
    let told = wait::until_true("both nodes say that they carry a call", SOON, || {
        status = answer(&ground, "status -n cli");
        Ok(status["nodes"].as_array().is_some_and(|nodes| nodes.iter().all(|node| node["calls"] == 1)))
    });
    told.unwrap_or_else(|_| panic!("{status:#}"));
    let nodes = status["nodes"].as_array().unwrap().iter().map(|node| {
        (
            node["node"].clone(),
            node["attached"].clone(),
            node["programmed"].clone(),
            node["configHash"] == node["wantedHash"],
        )
    });
    let nodes: Vec<_> = nodes.collect();
    assert_eq!(nodes, [(json!("n1"), json!(true), json!(true), true), (json!("n2"), json!(true), json!(true), true)]);
    let objects: Vec<_> =
        status["objects"].as_array().unwrap().iter().map(|o| (o["kind"].clone(), o["name"].clone())).collect();
    assert_eq!(objects, [(json!("IpRule"), json!("tills"))]);
    let (code, text, _) = asked(&ground, None, "status");
    assert_eq!(code, Some(0));
    print!("{text}");

    // What it explains is what packets do.
    let to = format!("{}:1723/TCP", server_address(0));
    let explained = answer(&ground, &format!("explain -n cli --from a --to {to}"));
    let of = |explained: &Value| ["verdict", "rule", "externalAddress"].map(|field| explained[field].clone());
    assert_eq!(of(&explained), [json!("NAT"), json!("cli/tills"), json!(addresses::node(0).to_string())]);
    assert_eq!(
        explained["externalAddress"],
        calls.iter().find(|call| call["pod"] == "cli/a").unwrap()["external"]["address"]
    );
    let explained = answer(&ground, &format!("explain --from cli/other --to {to}"));
    assert_eq!(of(&explained), [json!("NotSelected"), Value::Null, Value::Null]);
    let considered = explained["considered"].as_array().unwrap().iter().find(|rule| rule["rule"] == "cli/tills");
    assert_eq!(considered.unwrap()["reason"], "labels {app: kiosk} do not match {app: till}");

    // Without rights, and without an operator.
    let nobody = of_nobody(&ground);
    let (code, out, err) = asked(&ground, Some(&nobody), "status");
    assert_eq!((code, out.as_str()), (Some(3), ""), "{err}");
    assert!(err.starts_with("error: you may not read Leases in namespace callgate-system: "), "{err}");
    assert!(err.contains("ask for Role callgate-observer there"), "{err}");
    ground.shared.k(&format!(
        "-n {0} create rolebinding nobody --role=callgate-observer --serviceaccount=cli:nobody",
        callgate::NAMESPACE
    ));
    let (code, out, err) = asked(&ground, Some(&nobody), "calls -o json");
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["calls"].as_array().unwrap().len(), 2);
    // With them to the operator, and not through an agent to the loopback of its node.
    let agent = callgate::agent(ground.shared.cluster(), "n1").unwrap();
    let path = format!("/api/v1/namespaces/{}/pods/{agent}/portforward?ports=10248", callgate::NAMESPACE);
    let args = ["create", "--as=system:serviceaccount:cli:nobody", "--raw", &path, "-f", "-"];
    let output = ground.shared.kubectl().output(&args, "").unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let refused = "ValidatingAdmissionPolicy 'callgate-observer' with binding 'callgate-observer' denied request";
    assert!(!output.status.success() && said.contains(refused), "{said}");
    ground.shared.k(&format!("-n {} delete rolebinding nobody", callgate::NAMESPACE));

    let k = |words: &str| ground.shared.k(&format!("-n {} {words}", callgate::NAMESPACE));
    let replicas = k("get deployment callgate-operator -o jsonpath={.spec.replicas}");
    k("scale deployment/callgate-operator --replicas=0");
    k(&format!("wait --for=delete pod -l app.kubernetes.io/component=operator {POD}"));
    let (code, out, err) = asked(&ground, None, "calls");
    assert_eq!((code, out.as_str()), (Some(3), ""), "{err}");
    assert!(err.starts_with("error: no operator leads in namespace callgate-system: "), "{err}");
    println!("{err}");
    k(&format!("scale deployment/callgate-operator --replicas={replicas}"));
    k(&format!("rollout status deployment/callgate-operator {POD}"));
    wait::until_true("the operator answers again, with all calls", SOON, || {
        let (_, out, _) = asked(&ground, None, "calls -o json");
        let list: Value = serde_json::from_str(&out).unwrap_or_default();
        Ok(list["calls"].as_array().is_some_and(|calls| calls.len() == 2) && list["missing"].is_null())
    })
    .unwrap();
    tills.iter().for_each(|till| till.hang_up(cluster).unwrap());
    ground.end();
}
