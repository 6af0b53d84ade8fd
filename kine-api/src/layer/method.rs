//! The table of gRPC methods this server has.

use std::collections::HashMap;
use std::sync::LazyLock;

use http::{HeaderMap, header::CONTENT_TYPE};
use tonic::Status;

/// The shape of a call, with the names of its metrics label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One message each way.
    Unary,
    /// Many messages back.
    ServerStream,
    /// Many messages both ways.
    BidiStream,
}

impl Kind {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Kind::Unary => "unary",
            Kind::ServerStream => "server_stream",
            Kind::BidiStream => "bidi_stream",
        }
    }
}

/// A gRPC method.
#[derive(Debug)]
pub(crate) struct Method {
    /// Place in [`METHODS`].
    pub(crate) index: usize,
    pub(crate) service: &'static str,
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Whether a learner serves it; a range decides for itself.
    pub(crate) on_learner: bool,
    /// Whether it may rightly wait for others without end, although unary.
    pub(crate) waits: bool,
}

impl Method {
    /// A request of etcd's own with one answer.
    pub(crate) fn is_etcd_unary(&self) -> bool {
        self.kind == Kind::Unary && self.service.starts_with("etcdserverpb.")
    }
}

macro_rules! methods {
    ($($service:literal { $($kind:ident $name:literal $($trait:ident)?,)* })*) => {
        [$($(($service, $name, Kind::$kind, methods!(@learner $($trait)?), methods!(@waits $($trait)?)),)*)*]
    };
    (@learner learner) => { true };
    (@learner $($other:ident)?) => { false };
    (@waits waits) => { true };
    (@waits $($other:ident)?) => { false };
}

/// All methods.
pub(crate) static METHODS: LazyLock<Vec<Method>> = LazyLock::new(|| {
    let methods = methods! {
        "etcdserverpb.KV" {
            Unary "Range" learner,
            ServerStream "RangeStream",
            Unary "Put",
            Unary "DeleteRange",
            Unary "Txn",
            Unary "Compact",
        }
        "etcdserverpb.Watch" {
            BidiStream "Watch",
        }
        "etcdserverpb.Lease" {
            Unary "LeaseGrant",
            Unary "LeaseRevoke",
            BidiStream "LeaseKeepAlive",
            Unary "LeaseTimeToLive",
            Unary "LeaseLeases",
        }
        "etcdserverpb.Cluster" {
            Unary "MemberAdd",
            Unary "MemberRemove",
            Unary "MemberUpdate",
            Unary "MemberList",
            Unary "MemberPromote",
        }
        "etcdserverpb.Maintenance" {
            Unary "Alarm",
            Unary "Status" learner,
            Unary "Defragment",
            Unary "Hash",
            Unary "HashKV",
            ServerStream "Snapshot" learner,
            Unary "MoveLeader",
            Unary "Downgrade",
        }
        "etcdserverpb.Auth" {
            Unary "AuthEnable",
            Unary "AuthDisable",
            Unary "AuthStatus",
            Unary "Authenticate",
            Unary "UserAdd",
            Unary "UserGet",
            Unary "UserList",
            Unary "UserDelete",
            Unary "UserChangePassword",
            Unary "UserGrantRole",
            Unary "UserRevokeRole",
            Unary "RoleAdd",
            Unary "RoleGet",
            Unary "RoleList",
            Unary "RoleDelete",
            Unary "RoleGrantPermission",
            Unary "RoleRevokePermission",
        }
        "v3lockpb.Lock" {
            Unary "Lock" waits,
            Unary "Unlock",
        }
        "v3electionpb.Election" {
            Unary "Campaign" waits,
            Unary "Proclaim",
            Unary "Leader",
            ServerStream "Observe",
            Unary "Resign",
        }
        "grpc.health.v1.Health" {
            Unary "Check" learner,
            ServerStream "Watch" learner,
            Unary "List" learner,
        }
        "grpc.reflection.v1.ServerReflection" {
            BidiStream "ServerReflectionInfo" learner,
        }
        "grpc.reflection.v1alpha.ServerReflection" {
            BidiStream "ServerReflectionInfo" learner,
        }
    };
    let number = |(index, (service, name, kind, on_learner, waits))| Method {
        index,
        service,
        name,
        kind,
        on_learner,
        waits,
    };
    methods.into_iter().enumerate().map(number).collect()
});

static BY_PATH: LazyLock<HashMap<String, &'static Method>> =
    LazyLock::new(|| METHODS.iter().map(|m| (format!("/{}/{}", m.service, m.name), m)).collect());

/// The method of a request path.
pub(super) fn find(path: &str) -> Option<&'static Method> {
    BY_PATH.get(path).copied()
}

/// The status for a path without a method, in grpc-go's words.
pub(crate) fn unknown(path: &str) -> Status {
    match path.strip_prefix('/').and_then(|path| path.rsplit_once('/')) {
        Some((service, method)) if METHODS.iter().any(|m| m.service == service) => {
            Status::unimplemented(format!("unknown method {method} for service {service}"))
        }
        Some((service, _)) => Status::unimplemented(format!("unknown service {service}")),
        None => Status::unimplemented(format!("malformed method name: {path:?}")),
    }
}

/// Whether a request is a gRPC call.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_generated_method_is_listed() {
        use prost::Message;
        let set = prost_types::FileDescriptorSet::decode(crate::services::DESCRIPTORS).unwrap();
        let mut count = 0;
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    let found = find(&path).unwrap_or_else(|| panic!("{path} is not listed"));
                    let kind = match (method.client_streaming(), method.server_streaming()) {
                        (false, false) => Kind::Unary,
                        (false, true) => Kind::ServerStream,
                        _ => Kind::BidiStream,
                    };
                    assert_eq!(found.kind, kind, "{path}");
                    count += 1;
                }
            }
        }
        assert_eq!(count, 49);
    }

    #[test]
    fn unknown_methods_are_told_as_grpc_go_does() {
        assert_eq!(
            unknown("/etcdserverpb.KV/Foo").message(),
            "unknown method Foo for service etcdserverpb.KV"
        );
        assert_eq!(unknown("/a.B/C").message(), "unknown service a.B");
        assert_eq!(unknown("/a.B/C").code(), tonic::Code::Unimplemented);
    }
}
