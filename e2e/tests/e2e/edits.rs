//! A rule is edited while real calls of it live: they go on, through both ways of GRE, also when the agent is started anew meanwhile.

use callgate_e2e::gateway::callgate::CLASSIC;
use callgate_e2e::traffic::manifests::put;

use super::support::{LOOK, Scene, UP, can_run};

/// What the classic rule becomes, one edit after the other. None of them lets a new call in.
const EDITS: [(&str, &str, &str); 4] = [
    ("another port", "destinationPorts: \"1723\"", "destinationPorts: \"1724\""),
    ("another destination", "cidrs: [0.0.0.0/0]", "cidrs: [192.0.2.0/24]"),
    ("no ALG", ", algRef: {kind: PptpAlg, name: pptp}", ""),
    ("dropped", "action: NAT", "action: Drop"),
];

fn lives_through_edits(way: &str) {
    let mut scene = Scene::with_flags(2, 1, &CLASSIC, &["--fast-path", way]);
    let links = scene.dial_all();
    let ids = |scene: &Scene| {
        let calls = scene.callgate.wait_calls(&scene.lab.gw, 2).unwrap();
        let mut ids: Vec<_> = calls.iter().map(|call| format!("{:?}", call.client)).collect();
        ids.sort();
        ids
    };
    let before = ids(&scene);
    let mut manifests = CLASSIC.clone();
    for (what, old, new) in EDITS {
        assert!(manifests.contains(old), "{what}");
        manifests = manifests.replacen(old, new, 1);
        // A service without ALG does not stay in a rule that needs one, nor one with it in a rule that drops.
        put(&scene.callgate, &scene.lab.gw, "rules.yaml", &manifests).unwrap();
        assert_eq!(scene.loss(&links, LOOK), [0; 2], "{way}, {what}: {}", scene.callgate.log());
        // Whoever looks for a mistake forgets what conntrack knows: then the rules judge what comes next.
        scene.lab.gw.run("conntrack", &["-F"]).unwrap();
        assert_eq!(scene.loss(&links, LOOK), [0; 2], "{way}, {what}, without conntrack: {}", scene.callgate.log());
        assert_eq!(ids(&scene), before, "{way}, {what}");
    }
    // What the rules do not know any more the next agent takes from the kernel.
    scene.callgate.kill9();
    scene.callgate.run(&scene.lab.gw).unwrap();
    scene.all_live(&links, LOOK);
    assert_eq!(ids(&scene), before, "{way}, with another agent");
    scene.callgate.stop().unwrap();
}

#[test]
fn calls_live_through_every_edit_of_their_rule_by_the_fast_path() {
    if !can_run("calls_live_through_every_edit_of_their_rule_by_the_fast_path") {
        return;
    }
    lives_through_edits("auto");
}

#[test]
fn a_configuration_that_the_kernel_refuses_ends_no_call_however_often_it_is_tried() {
    if !can_run("a_configuration_that_the_kernel_refuses_ends_no_call_however_often_it_is_tried") {
        return;
    }
    let mut scene = Scene::with(2, 1, &CLASSIC);
    let links = scene.dial_all();
    // The record of what is in the kernel cannot be written: nothing may be changed. The rule of the calls has another name in it.
    let in_the_way = scene.lab.gw.dir.join("callgate/state/kernel.json.new");
    std::fs::create_dir(&in_the_way).unwrap();
    let renamed = CLASSIC.replace("tills-to-head-office", "tills-to-the-office");
    std::fs::write(scene.callgate.manifests.join("rules.yaml"), renamed).unwrap();
    let told = |scene: &Scene| scene.callgate.log().matches("could not be put into the kernel").count();
    callgate_e2e::wait::until_true("it is refused, again and again", UP, || Ok(told(&scene) >= 2)).unwrap();
    assert!(scene.callgate.log().contains("what ran before goes on"), "{}", scene.callgate.log());
    scene.all_live(&links, LOOK);
    assert_eq!(scene.callgate.counter(&scene.lab.gw, "connections_opened").unwrap(), 2, "{}", scene.callgate.log());
    // What it says of the rule is true as soon as the kernel has it.
    std::fs::remove_dir(&in_the_way).unwrap();
    scene.callgate.wait_calls(&scene.lab.gw, 0).unwrap();
    scene.callgate.stop().unwrap();
}

#[test]
fn calls_live_through_every_edit_of_their_rule_through_user_space() {
    if !can_run("calls_live_through_every_edit_of_their_rule_through_user_space") {
        return;
    }
    lives_through_edits("off");
}
