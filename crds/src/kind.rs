//! The kinds as a value: names, and the definition the API server gets.

use std::fmt;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

/// One of the object kinds of [`crate::GROUP`] that people write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// How PPTP is treated.
    PptpAlg,
    /// A passive match on protocol and ports.
    Service,
    /// What happens to whose traffic.
    IpRule,
}

impl Kind {
    /// Every kind, in the order references point: a rule names services, a service names an ALG.
    pub const ALL: [Self; 3] = [Self::PptpAlg, Self::Service, Self::IpRule];

    /// The `kind` field of its objects.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PptpAlg => "PptpAlg",
            Self::Service => "Service",
            Self::IpRule => "IpRule",
        }
    }

    /// The resource name, as in `kubectl get NAME`.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::PptpAlg => "pptpalgs",
            Self::Service => "ipservices",
            Self::IpRule => "iprules",
        }
    }

    /// The kind with this `kind` field; `None` where it is not ours.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The CustomResourceDefinition, as generated from the Rust types, `nullable` taken out: a field without a value is
    /// then a field left out (the API server prunes it), and gets its default. Descriptions are one line each. Of the status that all
    /// kinds have in Rust, a kind's schema has what there can be of it.
    pub fn definition(self) -> CustomResourceDefinition {
        let mut definition = match self {
            Self::PptpAlg => crate::PptpAlg::crd(),
            Self::Service => crate::Service::crd(),
            Self::IpRule => crate::IpRule::crd(),
        };
        tidy_versions(&mut definition);
        match self {
            Self::PptpAlg => {}
            // Only an ALG learns anything of servers.
            Self::Service | Self::IpRule => without_shared_servers(&mut definition),
        }
        definition
    }
}

fn without_shared_servers(definition: &mut CustomResourceDefinition) {
    let schemas =
        definition.spec.versions.iter_mut().filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut());
    for status in schemas.filter_map(|schema| schema.properties.as_mut()?.get_mut("status")?.properties.as_mut()) {
        status.remove("sharedServers");
    }
}

/// The definitions of every resource of ours: the kinds that people write, and those that the system writes.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    let mut node = crate::EgressNode::crd();
    tidy_versions(&mut node);
    Kind::ALL.into_iter().map(Kind::definition).chain([node]).collect()
}

fn tidy_versions(definition: &mut CustomResourceDefinition) {
    for version in &mut definition.spec.versions {
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            tidy(schema);
        }
    }
}

/// Takes `nullable`, which the derive gives every `Option`, and the line breaks of doc comments out of a schema and all
/// schemas in it.
fn tidy(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema.description = schema.description.take().map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
    schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(tidy);
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => tidy(items),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(tidy),
        None => {}
    }
    match &mut schema.additional_properties {
        Some(JSONSchemaPropsOrBool::Schema(values)) => tidy(values),
        Some(JSONSchemaPropsOrBool::Bool(_)) | None => {}
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
