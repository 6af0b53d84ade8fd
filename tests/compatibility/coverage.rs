//! Which fields of etcd's messages the scripts have used and seen.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use serde_json::Value;

/// The gateway's paths and the methods behind them.
pub(crate) const PATHS: &[(&str, &str)] = &[
    ("kv/range", "etcdserverpb.KV.Range"),
    ("kv/put", "etcdserverpb.KV.Put"),
    ("kv/deleterange", "etcdserverpb.KV.DeleteRange"),
    ("kv/txn", "etcdserverpb.KV.Txn"),
    ("kv/compaction", "etcdserverpb.KV.Compact"),
    ("watch", "etcdserverpb.Watch.Watch"),
    ("lease/grant", "etcdserverpb.Lease.LeaseGrant"),
    ("lease/revoke", "etcdserverpb.Lease.LeaseRevoke"),
    ("lease/keepalive", "etcdserverpb.Lease.LeaseKeepAlive"),
    ("lease/timetolive", "etcdserverpb.Lease.LeaseTimeToLive"),
    ("lease/leases", "etcdserverpb.Lease.LeaseLeases"),
    ("kv/lease/revoke", "etcdserverpb.Lease.LeaseRevoke"),
    ("kv/lease/timetolive", "etcdserverpb.Lease.LeaseTimeToLive"),
    ("kv/lease/leases", "etcdserverpb.Lease.LeaseLeases"),
    ("cluster/member/add", "etcdserverpb.Cluster.MemberAdd"),
    ("cluster/member/remove", "etcdserverpb.Cluster.MemberRemove"),
    ("cluster/member/update", "etcdserverpb.Cluster.MemberUpdate"),
    ("cluster/member/list", "etcdserverpb.Cluster.MemberList"),
    ("cluster/member/promote", "etcdserverpb.Cluster.MemberPromote"),
    ("maintenance/alarm", "etcdserverpb.Maintenance.Alarm"),
    ("maintenance/status", "etcdserverpb.Maintenance.Status"),
    ("maintenance/defragment", "etcdserverpb.Maintenance.Defragment"),
    ("maintenance/hash", "etcdserverpb.Maintenance.Hash"),
    ("maintenance/hashkv", "etcdserverpb.Maintenance.HashKV"),
    ("maintenance/snapshot", "etcdserverpb.Maintenance.Snapshot"),
    ("maintenance/transfer-leadership", "etcdserverpb.Maintenance.MoveLeader"),
    ("maintenance/downgrade", "etcdserverpb.Maintenance.Downgrade"),
    ("auth/enable", "etcdserverpb.Auth.AuthEnable"),
    ("auth/disable", "etcdserverpb.Auth.AuthDisable"),
    ("auth/status", "etcdserverpb.Auth.AuthStatus"),
    ("auth/authenticate", "etcdserverpb.Auth.Authenticate"),
    ("auth/user/add", "etcdserverpb.Auth.UserAdd"),
    ("auth/user/get", "etcdserverpb.Auth.UserGet"),
    ("auth/user/list", "etcdserverpb.Auth.UserList"),
    ("auth/user/delete", "etcdserverpb.Auth.UserDelete"),
    ("auth/user/changepw", "etcdserverpb.Auth.UserChangePassword"),
    ("auth/user/grant", "etcdserverpb.Auth.UserGrantRole"),
    ("auth/user/revoke", "etcdserverpb.Auth.UserRevokeRole"),
    ("auth/role/add", "etcdserverpb.Auth.RoleAdd"),
    ("auth/role/get", "etcdserverpb.Auth.RoleGet"),
    ("auth/role/list", "etcdserverpb.Auth.RoleList"),
    ("auth/role/delete", "etcdserverpb.Auth.RoleDelete"),
    ("auth/role/grant", "etcdserverpb.Auth.RoleGrantPermission"),
    ("auth/role/revoke", "etcdserverpb.Auth.RoleRevokePermission"),
    ("lock/lock", "v3lockpb.Lock.Lock"),
    ("lock/unlock", "v3lockpb.Lock.Unlock"),
    ("election/campaign", "v3electionpb.Election.Campaign"),
    ("election/proclaim", "v3electionpb.Election.Proclaim"),
    ("election/leader", "v3electionpb.Election.Leader"),
    ("election/observe", "v3electionpb.Election.Observe"),
    ("election/resign", "v3electionpb.Election.Resign"),
];

/// Etcd's messages, and what has been seen of them.
pub(crate) struct Coverage {
    messages: BTreeMap<String, DescriptorProto>,
    /// Method to request and response type.
    methods: BTreeMap<String, (String, String)>,
    used: BTreeSet<(String, String)>,
}

impl Coverage {
    /// Of the services the harness knows.
    pub(crate) fn new() -> Self {
        let set = FileDescriptorSet::decode(skiff_test_support::DESCRIPTORS).expect("own descriptors decode");
        let mut coverage =
            Coverage { messages: BTreeMap::new(), methods: BTreeMap::new(), used: BTreeSet::new() };
        for file in &set.file {
            for message in &file.message_type {
                coverage.add(&format!(".{}", file.package()), message);
            }
            for service in &file.service {
                for method in &service.method {
                    let name = format!("{}.{}.{}", file.package(), service.name(), method.name());
                    let types = (method.input_type().to_owned(), method.output_type().to_owned());
                    coverage.methods.insert(name, types);
                }
            }
        }
        coverage
    }

    fn add(&mut self, scope: &str, message: &DescriptorProto) {
        let name = format!("{scope}.{}", message.name());
        for nested in &message.nested_type {
            self.add(&name, nested);
        }
        self.messages.insert(name, message.clone());
    }

    /// Every method, by its full name.
    pub(crate) fn methods(&self) -> impl Iterator<Item = &String> {
        self.methods.keys()
    }

    /// Notes the fields of a request and of its answers.
    pub(crate) fn note(&mut self, path: &str, requests: &[Value], answers: &[Value]) {
        let Some((_, method)) = PATHS.iter().find(|(known, _)| *known == path) else { return };
        let Some((request, response)) = self.methods.get(*method).cloned() else { return };
        for value in requests {
            self.walk(&request, value);
        }
        for value in answers {
            // A result of a stream stands in an envelope.
            self.walk(&response, value.get("result").unwrap_or(value));
        }
    }

    fn walk(&mut self, message: &str, value: &Value) {
        let Some(fields) = value.as_object() else { return };
        for (name, value) in fields {
            let Some(field) = self.field(message, name) else { continue };
            self.used.insert((message.to_owned(), field.name().to_owned()));
            if field.r#type() == Type::Message {
                let inner = field.type_name().to_owned();
                match value {
                    Value::Array(values) => values.iter().for_each(|value| self.walk(&inner, value)),
                    value => self.walk(&inner, value),
                }
            }
        }
    }

    fn field(&self, message: &str, name: &str) -> Option<FieldDescriptorProto> {
        let fields = &self.messages.get(message)?.field;
        fields.iter().find(|field| field.name() == name || field.json_name() == name).cloned()
    }

    /// The messages that methods take or give, each with its fields and
    /// whether a script used or saw them.
    pub(crate) fn fields(&self) -> BTreeMap<String, Vec<(String, bool)>> {
        let mut reached = BTreeMap::new();
        for (request, response) in self.methods.values() {
            self.reach(request, &mut reached);
            self.reach(response, &mut reached);
        }
        reached
    }

    fn reach(&self, message: &str, reached: &mut BTreeMap<String, Vec<(String, bool)>>) {
        let short = message.trim_start_matches('.').to_owned();
        let Some(descriptor) = self.messages.get(message).filter(|_| !reached.contains_key(&short)) else {
            return;
        };
        let used = |name: &str| self.used.contains(&(message.to_owned(), name.to_owned()));
        let fields = descriptor.field.iter().map(|f| (f.name().to_owned(), used(f.name()))).collect();
        reached.insert(short, fields);
        for field in descriptor.field.iter().filter(|field| field.r#type() == Type::Message) {
            self.reach(field.type_name(), reached);
        }
    }
}
