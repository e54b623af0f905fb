//! Every manifest of `tests/bad` is refused with the message it expects, every one of `tests/good` and every predefined
//! object is taken; and the API server's rules (CEL) say exactly what the Rust twins say.
// Helpers count as tests here.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use callgate_crds::schema::{self, Problem};
use callgate_crds::{IpRule, Kind, PptpAlg, SYSTEM_NAMESPACE, Service, predefined, shape};
use kube::core::cel::Validator;
use serde_json::Value;

fn manifests(folder: &str) -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

fn objects(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap()
}

fn kind(object: &Value) -> Kind {
    Kind::from_name(object["kind"].as_str().unwrap()).unwrap()
}

/// What the API server's CEL rules say about an object whose defaults are filled in.
fn cel(object: &Value) -> Vec<Problem> {
    let errors = Validator::new().validate(schema::of(kind(object)), object, None);
    let mut problems: Vec<Problem> = errors
        .err()
        .into_iter()
        .flat_map(|errors| errors.into_vec())
        .map(|error| Problem { path: error.field_path, message: error.message })
        .collect();
    problems.sort();
    problems
}

#[test]
fn every_bad_manifest_is_refused_with_the_message_it_expects() {
    let mut wrong = Vec::new();
    let all = manifests("bad");
    assert!(all.len() >= 25, "only {} bad manifests", all.len());
    for (path, text) in all {
        let expected = text.lines().next().unwrap().strip_prefix("# expect: ").unwrap();
        let problems: Vec<String> = objects(&text)
            .iter_mut()
            .flat_map(|object| schema::validate(kind(object), object))
            .map(|problem| problem.to_string())
            .collect();
        // One mistake a file, and one message a mistake.
        if problems.len() != 1 || !problems.iter().any(|problem| problem.contains(expected)) {
            wrong.push(format!("{}:\n  expected {expected}\n  got {problems:#?}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Without the text that a rule's message is about, which the API server says itself.
fn bare(problem: Problem) -> Problem {
    let message = shape::RULES.iter().map(|rule| rule.message).find(|message| problem.message.ends_with(*message));
    Problem { message: message.map(str::to_owned).unwrap_or(problem.message), ..problem }
}

#[test]
fn cel_and_its_rust_twin_say_the_same_about_every_manifest() {
    let messages: BTreeSet<&str> = shape::RULES.iter().map(|rule| rule.message).collect();
    let mut seen = BTreeSet::new();
    for (path, text) in [manifests("bad"), manifests("good")].concat() {
        for mut object in objects(&text) {
            let ours = schema::validate(kind(&object), &mut object);
            let (by_shape, by_schema): (Vec<Problem>, Vec<Problem>) =
                ours.into_iter().map(bare).partition(|problem| messages.contains(problem.message.as_str()));
            // Where the schema has refused an object, the API server does not come to its rules.
            if by_schema.is_empty() {
                assert_eq!(cel(&object), by_shape, "{}", path.display());
                seen.extend(by_shape.into_iter().map(|problem| problem.message));
            }
        }
    }
    assert_eq!(
        seen.iter().map(String::as_str).collect::<BTreeSet<_>>(),
        messages,
        "a rule that no bad manifest breaks"
    );
}

#[test]
fn good_predefined_and_documented_manifests_are_taken_and_become_the_rust_types() {
    let predefined = predefined().iter().map(|(file, text)| (PathBuf::from(file), (*text).to_owned())).collect();
    let examples = examples("objects.md");
    assert_eq!(examples.len(), 5);
    for (path, text) in [manifests("good"), predefined, examples].concat() {
        for mut object in objects(&text) {
            assert_eq!(schema::validate(kind(&object), &mut object), [], "{}", path.display());
            // Into the type and back is the identity: nothing is lost, no default differs from the schema's.
            let back = match kind(&object) {
                Kind::PptpAlg => serde_json::to_value(serde_json::from_value::<PptpAlg>(object.clone()).unwrap()),
                Kind::Service => serde_json::to_value(serde_json::from_value::<Service>(object.clone()).unwrap()),
                Kind::IpRule => serde_json::to_value(serde_json::from_value::<IpRule>(object.clone()).unwrap()),
            };
            assert_eq!(back.unwrap(), object, "{}", path.display());
        }
    }
}

#[test]
fn rust_defaults_are_those_of_the_schema() {
    for mut object in
        objects(&manifests("good").into_iter().find(|(path, _)| path.ends_with("everything-left-out.yaml")).unwrap().1)
    {
        let bare = object.clone();
        assert_eq!(schema::validate(kind(&object), &mut object), []);
        let by_rust = match kind(&bare) {
            Kind::PptpAlg => serde_json::to_value(serde_json::from_value::<PptpAlg>(bare).unwrap()),
            Kind::Service => serde_json::to_value(serde_json::from_value::<Service>(bare).unwrap()),
            Kind::IpRule => serde_json::to_value(serde_json::from_value::<IpRule>(bare).unwrap()),
        };
        assert_eq!(by_rust.unwrap(), object);
    }
}

/// YAML blocks of a page of the documentation.
fn examples(page: &str) -> Vec<(PathBuf, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(page);
    let text = std::fs::read_to_string(path).unwrap();
    let blocks = text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks
        .enumerate()
        .map(|(number, block)| (PathBuf::from(format!("{page}, block {number}")), block.to_owned()))
        .collect()
}

#[test]
fn every_field_is_in_the_documentation() {
    let documentation =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/objects.md")).unwrap();
    for kind in Kind::ALL {
        for field in schema::of(kind)["properties"]["spec"]["properties"].as_object().unwrap().keys() {
            let documented =
                documentation.contains(&format!("| `{field}")) || documentation.contains(&format!("`{field}."));
            assert!(documented, "{field} of {kind} is not in docs/objects.md");
        }
    }
}

#[test]
fn predefined_objects_are_in_the_system_namespace_each_name_once_and_in_the_documentation() {
    let documentation = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/objects.md");
    let documentation = std::fs::read_to_string(documentation).unwrap();
    let mut names = BTreeSet::new();
    for (file, text) in predefined() {
        for object in objects(text) {
            assert_eq!(object["metadata"]["namespace"], SYSTEM_NAMESPACE, "{file}");
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            assert!(documentation.contains(&format!("`{name}`")), "{name} of {file} is not in docs/objects.md");
            assert!(names.insert((kind(&object), name)), "{object} twice");
        }
    }
    for object in predefined().iter().flat_map(|(_, text)| objects(text)) {
        for member in object["spec"]["members"].as_array().into_iter().flatten() {
            assert!(
                names.contains(&(Kind::Service, member["name"].as_str().unwrap().to_owned())),
                "{member} of a group"
            );
        }
    }
    let files: Vec<&str> = predefined().iter().map(|(file, _)| *file).collect();
    let mut in_folder: Vec<String> = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("predefined"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    in_folder.sort();
    assert_eq!(files, in_folder);
}
