//! Manifests: what is broken or refused goes on as it was, across a restart too.

use callgate_proto::model::ObjectKey;
use tempfile::TempDir;

use super::*;

/// Nobody is writing.
const NONE: &BTreeSet<String> = &BTreeSet::new();

fn rule(name: &str, order: &str) -> String {
    format!(
        "apiVersion: callgate.io/v1alpha1\nkind: IpRule\nmetadata: {{name: {name}, namespace: pos}}\nspec:\n  order: {order}\n  \
         action: Drop\n  source: {{cidrs: [10.0.0.0/24]}}\n  destination: {{cidrs: [203.0.113.0/24]}}\n  services: [{{name: http}}]\n"
    )
}

fn write(dir: &TempDir, name: &str, text: &str) {
    std::fs::write(dir.path().join(name), text).unwrap();
}

/// Names of the rules with their order.
fn rules(world: &World) -> Vec<(String, i64)> {
    world.rules.iter().map(|(key, rule)| (key.name.clone(), i64::from(rule.spec.order))).collect()
}

fn expected(list: &[(&str, i64)]) -> Vec<(String, i64)> {
    list.iter().map(|(name, order)| ((*name).to_owned(), *order)).collect()
}

fn files(problems: &[Problem]) -> Vec<&str> {
    problems.iter().map(|problem| problem.file.as_str()).collect()
}

#[test]
fn yaml_and_yml_are_read_hidden_files_directories_and_others_are_not() {
    let dir = TempDir::new().unwrap();
    write(&dir, "a.yaml", &rule("a", "1"));
    write(&dir, "b.yml", &rule("b", "2"));
    write(&dir, ".c.yaml", &rule("c", "3"));
    write(&dir, "d.txt", &rule("d", "4"));
    std::fs::create_dir(dir.path().join("e.yaml")).unwrap();
    let (world, problems) = Manifests::new(dir.path(), Saved::default()).read(NONE);
    assert_eq!((rules(&world), problems), (expected(&[("a", 1), ("b", 2)]), vec![]));
    assert!(world.services.contains_key(&ObjectKey::new("callgate-system", "http")), "predefined objects need no file");
}

#[test]
fn a_file_that_is_no_yaml_any_more_goes_on_as_it_was_and_one_that_is_removed_does_not() {
    let dir = TempDir::new().unwrap();
    let mut manifests = Manifests::new(dir.path(), Saved::default());
    write(&dir, "a.yaml", &rule("a", "1"));
    write(&dir, "b.yaml", &rule("b", "2"));
    manifests.read(NONE);
    write(&dir, "a.yaml", "spec: [");
    let (world, problems) = manifests.read(NONE);
    assert_eq!((rules(&world), files(&problems)), (expected(&[("a", 1), ("b", 2)]), vec!["a.yaml"]));
    std::fs::remove_file(dir.path().join("a.yaml")).unwrap();
    let (world, problems) = manifests.read(NONE);
    assert_eq!((rules(&world), problems), (expected(&[("b", 2)]), vec![]));
}

#[test]
fn an_object_that_is_refused_goes_on_as_it_was_while_its_neighbours_follow_the_file() {
    let dir = TempDir::new().unwrap();
    let mut manifests = Manifests::new(dir.path(), Saved::default());
    write(&dir, "a.yaml", &[rule("a", "1"), rule("b", "2")].join("---\n"));
    manifests.read(NONE);
    write(&dir, "a.yaml", &[rule("a", "first"), rule("b", "3")].join("---\n"));
    let (world, problems) = manifests.read(NONE);
    assert_eq!((rules(&world), files(&problems)), (expected(&[("a", 1), ("b", 3)]), vec!["a.yaml"]));
    // Then somebody breaks the whole file.
    write(&dir, "a.yaml", "spec: [");
    for mut manifests in [Manifests::new(dir.path(), manifests.saved().clone()), manifests] {
        let (world, problems) = manifests.read(NONE);
        assert_eq!((rules(&world), files(&problems)), (expected(&[("a", 1), ("b", 3)]), vec!["a.yaml"]));
    }
}

#[test]
fn an_object_that_has_replaced_a_predefined_one_goes_on_too_and_one_that_is_removed_gives_its_place_back() {
    let http = |ports: &str| {
        format!(
            "apiVersion: callgate.io/v1alpha1\nkind: Service\nmetadata: {{name: http, namespace: callgate-system}}\n\
             spec: {{protocol: TCP, destinationPorts: {ports}}}\n"
        )
    };
    let of = |world: &World| {
        let service = &world.services[&ObjectKey::new("callgate-system", "http")];
        (service.spec.destination_ports.clone().unwrap().0, service.meta.predefined)
    };
    let dir = TempDir::new().unwrap();
    let mut manifests = Manifests::new(dir.path(), Saved::default());
    // Wrong from the beginning: there is nothing of it that could go on.
    write(&dir, "http.yaml", &http("[80]"));
    let (world, problems) = manifests.read(NONE);
    assert_eq!((of(&world), files(&problems)), (("80".to_owned(), true), vec!["http.yaml"]));
    write(&dir, "http.yaml", &http("'80,8080'"));
    let good = ("80,8080".to_owned(), false);
    assert_eq!(of(&manifests.read(NONE).0), good);
    write(&dir, "http.yaml", &http("[80]"));
    let (world, problems) = manifests.read(NONE);
    assert_eq!((of(&world), files(&problems)), (good.clone(), vec!["http.yaml"]));
    // Also across a restart.
    let text = serde_json::to_vec(manifests.saved()).unwrap();
    let mut manifests = Manifests::new(dir.path(), serde_json::from_slice(&text).unwrap());
    assert_eq!(of(&manifests.read(NONE).0), good);
    std::fs::remove_file(dir.path().join("http.yaml")).unwrap();
    assert_eq!(of(&manifests.read(NONE).0), ("80".to_owned(), true));
}

#[test]
fn what_went_on_before_a_restart_goes_on_after_it() {
    let dir = TempDir::new().unwrap();
    let mut manifests = Manifests::new(dir.path(), Saved::default());
    write(&dir, "broken.yaml", &rule("a", "1"));
    write(&dir, "refused.yaml", &rule("b", "2"));
    manifests.read(NONE);
    write(&dir, "broken.yaml", "spec: [");
    write(&dir, "refused.yaml", &rule("b", "second"));
    manifests.read(NONE);
    let text = serde_json::to_vec(manifests.saved()).unwrap();
    let (world, problems) = Manifests::new(dir.path(), serde_json::from_slice(&text).unwrap()).read(NONE);
    assert_eq!(rules(&world), expected(&[("a", 1), ("b", 2)]));
    assert_eq!(files(&problems), ["broken.yaml", "refused.yaml"]);
}

#[test]
fn a_directory_that_cannot_be_read_changes_nothing_and_is_told() {
    let dir = TempDir::new().unwrap();
    let mut manifests = Manifests::new(dir.path(), Saved::default());
    write(&dir, "a.yaml", &rule("a", "1"));
    manifests.read(NONE);
    std::fs::remove_dir_all(dir.path()).unwrap();
    let (world, problems) = manifests.read(NONE);
    assert_eq!(rules(&world), expected(&[("a", 1)]));
    assert_eq!(files(&problems), [dir.path().to_str().unwrap()]);
}

#[test]
fn a_file_that_is_emptied_goes_on_as_it_was_until_it_is_removed_across_a_restart_too() {
    let dir = TempDir::new().unwrap();
    let mut manifests = Manifests::new(dir.path(), Saved::default());
    write(&dir, "a.yaml", &rule("a", "1"));
    write(&dir, "never.yaml", "");
    assert_eq!(manifests.read(NONE).1, vec![]);
    for text in ["", "---\n# nothing but words\n---\n"] {
        write(&dir, "a.yaml", text);
        for mut manifests in [Manifests::new(dir.path(), manifests.saved().clone()), manifests.clone()] {
            let empty = problem("a.yaml", "is empty: remove the file to remove its objects");
            let (world, problems) = manifests.read(NONE);
            assert_eq!((rules(&world), problems), (expected(&[("a", 1)]), vec![empty]), "{text:?}");
        }
    }
    write(&dir, "a.yaml", &rule("a", "2"));
    let (world, problems) = manifests.read(NONE);
    assert_eq!((rules(&world), problems), (expected(&[("a", 2)]), vec![]));
    // A list of nothing is a document: somebody means it.
    write(&dir, "a.yaml", "apiVersion: v1\nkind: List\nitems: []\n");
    let (world, problems) = manifests.read(NONE);
    assert_eq!((rules(&world), problems), (vec![], vec![]));
}

#[test]
fn a_file_that_somebody_is_writing_stays_as_it_was_read_last_and_a_new_one_waits() {
    let dir = TempDir::new().unwrap();
    let unfinished = ["a.yaml", "new.yaml"].map(str::to_owned).into();
    let mut manifests = Manifests::new(dir.path(), Saved::default());
    write(&dir, "a.yaml", &rule("a", "1"));
    manifests.read(NONE);
    write(&dir, "a.yaml", &rule("b", "2"));
    write(&dir, "new.yaml", &rule("c", "3"));
    assert!(!manifests.changed(&unfinished));
    for mut manifests in [Manifests::new(dir.path(), manifests.saved().clone()), manifests.clone()] {
        let (world, problems) = manifests.read(&unfinished);
        assert_eq!((rules(&world), problems), (expected(&[("a", 1)]), vec![]));
    }
    assert!(manifests.changed(NONE));
    let (world, problems) = manifests.read(NONE);
    assert_eq!((rules(&world), problems), (expected(&[("b", 2), ("c", 3)]), vec![]));
}

#[test]
fn a_directory_that_goes_while_it_is_read_is_one_that_cannot_be_read_and_not_one_without_files() {
    let dir = TempDir::new().unwrap();
    write(&dir, "a.yaml", &rule("a", "1"));
    let entries = std::fs::read_dir(dir.path()).unwrap();
    std::fs::remove_dir_all(dir.path()).unwrap();
    assert_eq!(listed(dir.path(), entries).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_change_is_noticed_without_being_told() {
    let dir = TempDir::new().unwrap();
    let mut manifests = Manifests::new(dir.path(), Saved::default());
    write(&dir, "a.yaml", &rule("a", "1"));
    assert!(manifests.changed(NONE));
    manifests.read(NONE);
    assert!(!manifests.changed(NONE));
    write(&dir, "a.yaml", &rule("a", "2"));
    assert!(manifests.changed(NONE));
}
