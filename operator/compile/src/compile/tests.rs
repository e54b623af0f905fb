//! What is kept from one compile to the next stays as small as it has to be.
use std::collections::BTreeSet;

use callgate_proto::model::ObjectKey;

use super::*;
use crate::manifests::parse_of_cluster;

/// Rules of one namespace, each for all pods but those that have its number as label `k`.
fn all_but_one(count: usize) -> World {
    let rule = |number| {
        format!(
            "---\napiVersion: callgate.io/v1alpha1\nkind: IpRule\nmetadata: {{name: r-{number:03}, namespace: pos}}\nspec:\n  \
             order: {number}\n  action: Drop\n  services: [{{name: all}}]\n  destination: {{cidrs: [192.0.2.{number}/32]}}\n  \
             source: {{podSelector: {{matchExpressions: [{{key: k, operator: NotIn, values: ['{number}']}}]}}}}\n"
        )
    };
    let text: String = (0..count).map(rule).collect();
    let parsed = parse_of_cluster(&[("rules.yaml".to_owned(), text)], callgate_crds::predefined());
    assert_eq!(parsed.problems, []);
    World { nodes: BTreeSet::from(["a".to_owned()]), ..parsed.world }
}

#[test]
fn a_pod_that_is_relabelled_again_and_again_leaves_no_more_lists_of_rules_than_may_be_left() {
    let limits = Limits { spare_in_lists: 1_000, ..Limits::default() };
    let (mut world, mut compiler) = (all_but_one(100), Compiler::limited(limits, None));
    let key = ObjectKey::new("pos", "till");
    let size = |compiler: &Compiler| compiler.memory.as_ref().unwrap().selecting.lists.size();
    let (mut sizes, mut first) = (Vec::new(), 0);
    for number in 0..100 {
        let pod = crate::world::Pod {
            labels: [("k".to_owned(), number.to_string())].into(),
            addresses: vec!["10.1.0.1".parse().unwrap()],
            node: Some("a".to_owned()),
            ..Default::default()
        };
        world.pods.insert(key.clone(), pod.into());
        let compiled = compiler.compile_since(&world, &Since::Pods([key.clone()].into()));
        assert_eq!(compiled.nodes["a"].rules.len(), 99);
        if number == 0 {
            first = size(&compiler);
        }
        sizes.push(size(&compiler));
    }
    // One list is all there is at first, and each label makes one more.
    let most = 2 * first + limits.spare_in_lists + first;
    assert_eq!(sizes.into_iter().filter(|size| *size > most).collect::<Vec<_>>(), Vec::<usize>::new());
}
