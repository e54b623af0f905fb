//! The kinds as a value: names, and the definition the API server gets.

use std::fmt;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// One of the object kinds of [`crate::GROUP`].
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

    /// The CustomResourceDefinition, as generated from the Rust types.
    pub fn definition(self) -> CustomResourceDefinition {
        match self {
            Self::PptpAlg => crate::PptpAlg::crd(),
            Self::Service => crate::Service::crd(),
            Self::IpRule => crate::IpRule::crd(),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
