//! Which fields of etcd's messages the scripts have used and seen.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use serde_json::Value;
use skiff_test_support::gateway::PATHS;

/// Etcd's messages, and what has been seen of them.
pub(crate) struct Coverage {
    messages: BTreeMap<String, DescriptorProto>,
    /// Method to request and response type.
    methods: BTreeMap<String, (String, String)>,
    /// Fields of requests that were sent.
    sent: BTreeSet<(String, String)>,
    /// Fields that etcd answered with, and that were answered here.
    told: [BTreeSet<(String, String)>; 2],
}

/// Why a field is not seen with a value, or only here.
const FIELDS: &str = include_str!("fields.txt");

/// The fields of each message.
pub(crate) type Fields = BTreeMap<String, Vec<(String, Stand)>>;

/// How a field stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stand {
    /// Sent, or answered by both.
    Works,
    /// Something else, and why.
    Otherwise(String),
}

impl Coverage {
    /// Of the services the harness knows.
    pub(crate) fn new() -> Self {
        let set = FileDescriptorSet::decode(skiff_test_support::DESCRIPTORS).expect("own descriptors decode");
        let mut coverage = Coverage {
            messages: BTreeMap::new(),
            methods: BTreeMap::new(),
            sent: BTreeSet::new(),
            told: Default::default(),
        };
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

    /// Notes the fields of a request and of the answers to it: etcd's, and those here.
    pub(crate) fn note(&mut self, path: &str, requests: &[Value], answers: [&[Value]; 2]) {
        let Some((_, method)) = PATHS.iter().find(|(known, _)| *known == path) else { return };
        let Some((request, response)) = self.methods.get(*method).cloned() else { return };
        let mut sent = std::mem::take(&mut self.sent);
        requests.iter().for_each(|value| self.walk(&mut sent, &request, value));
        self.sent = sent;
        for (side, answers) in answers.into_iter().enumerate() {
            let mut told = std::mem::take(&mut self.told[side]);
            for value in answers {
                // A result of a stream stands in an envelope.
                self.walk(&mut told, &response, value.get("result").unwrap_or(value));
            }
            self.told[side] = told;
        }
    }

    fn walk(&self, used: &mut BTreeSet<(String, String)>, message: &str, value: &Value) {
        let Some(fields) = value.as_object() else { return };
        for (name, value) in fields {
            let Some(field) = self.field(message, name) else { continue };
            used.insert((message.to_owned(), field.name().to_owned()));
            if field.r#type() == Type::Message {
                let inner = field.type_name().to_owned();
                match value {
                    Value::Array(values) => values.iter().for_each(|value| self.walk(used, &inner, value)),
                    value => self.walk(used, &inner, value),
                }
            }
        }
    }

    fn field(&self, message: &str, name: &str) -> Option<FieldDescriptorProto> {
        let fields = &self.messages.get(message)?.field;
        fields.iter().find(|field| field.name() == name || field.json_name() == name).cloned()
    }

    /// The messages that methods take or give, each with its fields and how they stand.
    ///
    /// # Errors
    /// Fields that no script sends or sees, and reasons that no longer hold.
    pub(crate) fn fields(&self) -> Result<Fields, Vec<String>> {
        let reasons: BTreeMap<&str, &str> = FIELDS
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once(" | "))
            .collect();
        let mut reached = BTreeMap::new();
        for (request, response) in self.methods.values() {
            self.reach(request, &mut reached);
            self.reach(response, &mut reached);
        }
        let mut faults = Vec::new();
        let mut table = Fields::new();
        for (message, fields) in reached {
            for (name, works) in fields {
                let full = format!("{message}.{name}");
                let stand = match (works, reasons.get(full.as_str())) {
                    (true, Some(_)) => {
                        faults.push(format!("{full} has a reason, but is seen"));
                        Stand::Works
                    }
                    (true, None) => Stand::Works,
                    (false, Some(why)) => Stand::Otherwise((*why).to_owned()),
                    (false, None) => {
                        faults.push(format!("{full} is not sent, or not answered by both"));
                        continue;
                    }
                };
                table.entry(message.clone()).or_default().push((name, stand));
            }
            table.entry(message).or_default();
        }
        if faults.is_empty() { Ok(table) } else { Err(faults) }
    }

    fn reach(&self, message: &str, reached: &mut BTreeMap<String, Vec<(String, bool)>>) {
        let short = message.trim_start_matches('.').to_owned();
        let Some(descriptor) = self.messages.get(message).filter(|_| !reached.contains_key(&short)) else {
            return;
        };
        let works = |name: &str| {
            let field = (message.to_owned(), name.to_owned());
            self.sent.contains(&field) || self.told.iter().all(|told| told.contains(&field))
        };
        let fields = descriptor.field.iter().map(|f| (f.name().to_owned(), works(f.name()))).collect();
        reached.insert(short, fields);
        for field in descriptor.field.iter().filter(|field| field.r#type() == Type::Message) {
            self.reach(field.type_name(), reached);
        }
    }
}
