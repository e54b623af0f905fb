//! The committed files are those the code makes.
// Helpers count as tests here.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use callgate_crds::generate::{self, COMMAND};
use callgate_crds::{Kind, definitions};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

fn committed(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

#[test]
fn committed_files_are_those_the_code_makes() {
    for file in generate::files().unwrap() {
        assert_eq!(committed(&file.path), file.content, "{}: run `{COMMAND}`", file.path);
    }
}

#[test]
fn the_generated_yaml_reads_back_as_the_definition_it_was_made_from() {
    let all: Vec<CustomResourceDefinition> =
        serde_saphyr::from_multiple(&committed("crds/generated/all.yaml")).unwrap();
    assert_eq!(all, definitions());
    for definition in definitions() {
        let path = format!("crds/generated/{}.yaml", definition.spec.names.plural);
        let one: CustomResourceDefinition = serde_saphyr::from_str(&committed(&path)).unwrap();
        assert_eq!(one, definition);
    }
}

#[test]
fn egress_nodes_are_of_the_cluster_and_in_the_category_too() {
    let definition = definitions().pop().unwrap();
    let names = definition.spec.names;
    let told = (names.plural.as_str(), definition.spec.scope.as_str(), names.categories, names.short_names);
    assert_eq!(told, ("egressnodes", "Cluster", Some(vec!["callgate".to_owned()]), Some(vec!["cgn".to_owned()])));
}

#[test]
fn only_of_an_alg_people_are_told_that_it_has_servers_that_share() {
    let has = |kind: Kind| {
        let version = kind.definition().spec.versions.pop().unwrap();
        let schema = version.schema.unwrap().open_api_v3_schema.unwrap();
        let status = schema.properties.unwrap().remove("status").unwrap().properties.unwrap();
        (status.contains_key("sharedServers"), status.contains_key("liveCalls"))
    };
    assert_eq!([Kind::PptpAlg, Kind::Service, Kind::IpRule].map(has), [(true, true), (false, true), (false, true)]);
}

#[test]
fn kinds_are_namespaced_in_the_category_with_status_and_the_promised_names() {
    let names = |kind: Kind| {
        let spec = kind.definition().spec;
        let version = spec.versions.first().unwrap().clone();
        assert_eq!(
            (spec.group.as_str(), spec.scope.as_str(), version.name.as_str()),
            ("callgate.io", "Namespaced", "v1alpha1")
        );
        assert_eq!(spec.names.categories, Some(vec!["callgate".to_owned()]));
        assert!(version.subresources.unwrap().status.is_some());
        let short = spec.names.short_names.unwrap().join(",");
        format!("{} {} {} {short}", spec.names.kind, spec.names.plural, spec.names.singular.unwrap())
    };
    let expected = ["PptpAlg pptpalgs pptpalg palg", "Service ipservices ipservice ipsvc", "IpRule iprules iprule ipr"];
    assert_eq!(Kind::ALL.map(names), expected);
}
