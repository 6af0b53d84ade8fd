//! The format of Go's profiles: a protobuf message, compressed.

use std::collections::HashMap;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;

/// The messages, as far as they are used.
mod pb {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Profile {
        #[prost(message, repeated, tag = "1")]
        pub(super) sample_type: Vec<ValueType>,
        #[prost(message, repeated, tag = "2")]
        pub(super) sample: Vec<Sample>,
        #[prost(message, repeated, tag = "4")]
        pub(super) location: Vec<Location>,
        #[prost(message, repeated, tag = "5")]
        pub(super) function: Vec<Function>,
        #[prost(string, repeated, tag = "6")]
        pub(super) string_table: Vec<String>,
        #[prost(int64, tag = "7")]
        pub(super) drop_frames: i64,
        #[prost(int64, tag = "9")]
        pub(super) time_nanos: i64,
        #[prost(int64, tag = "10")]
        pub(super) duration_nanos: i64,
        #[prost(message, optional, tag = "11")]
        pub(super) period_type: Option<ValueType>,
        #[prost(int64, tag = "12")]
        pub(super) period: i64,
        #[prost(int64, tag = "14")]
        pub(super) default_sample_type: i64,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(super) struct ValueType {
        #[prost(int64, tag = "1")]
        pub(super) kind: i64,
        #[prost(int64, tag = "2")]
        pub(super) unit: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Sample {
        #[prost(uint64, repeated, tag = "1")]
        pub(super) location_id: Vec<u64>,
        #[prost(int64, repeated, tag = "2")]
        pub(super) value: Vec<i64>,
        #[prost(message, repeated, tag = "3")]
        pub(super) label: Vec<Label>,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(super) struct Label {
        #[prost(int64, tag = "1")]
        pub(super) key: i64,
        #[prost(int64, tag = "2")]
        pub(super) text: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Location {
        #[prost(uint64, tag = "1")]
        pub(super) id: u64,
        #[prost(message, repeated, tag = "4")]
        pub(super) line: Vec<Line>,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(super) struct Line {
        #[prost(uint64, tag = "1")]
        pub(super) function_id: u64,
        #[prost(int64, tag = "2")]
        pub(super) line: i64,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(super) struct Function {
        #[prost(uint64, tag = "1")]
        pub(super) id: u64,
        #[prost(int64, tag = "2")]
        pub(super) name: i64,
        #[prost(int64, tag = "3")]
        pub(super) system_name: i64,
        #[prost(int64, tag = "4")]
        pub(super) filename: i64,
    }
}

/// A place in a stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) function: String,
    pub(super) file: String,
    pub(super) line: u32,
}

/// What a number of a profile counts, and its unit.
pub(super) type ValueType = (&'static str, &'static str);

/// A profile under construction.
pub(super) struct Profile {
    message: pb::Profile,
    texts: HashMap<String, i64>,
    functions: HashMap<(String, String), u64>,
    locations: HashMap<(u64, u32), u64>,
}

impl Profile {
    /// An empty profile: what its samples count, and how often one is taken.
    pub(super) fn new(
        begun: SystemTime,
        time: Duration,
        kinds: &[ValueType],
        period: (ValueType, i64),
    ) -> Profile {
        let nanos = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        let mut profile = Profile {
            message: pb::Profile {
                time_nanos: nanos(begun.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()),
                duration_nanos: nanos(time),
                period: period.1,
                ..pb::Profile::default()
            },
            texts: HashMap::new(),
            functions: HashMap::new(),
            locations: HashMap::new(),
        };
        profile.text(""); // must be the first
        profile.message.sample_type = kinds.iter().map(|kind| profile.kind(*kind)).collect();
        profile.message.period_type = Some(profile.kind(period.0));
        profile
    }

    /// Lets readers leave out the functions whose whole name a pattern fits,
    /// and what they call.
    pub(super) fn leave_out(&mut self, pattern: &str) {
        self.message.drop_frames = self.text(pattern);
    }

    /// Lets readers show this of what is counted, if they are not told.
    pub(super) fn look_first_at(&mut self, kind: &str) {
        self.message.default_sample_type = self.text(kind);
    }

    /// Adds a stack, the innermost function first, with a number of each kind;
    /// and the thread, if it is of one.
    pub(super) fn add(&mut self, stack: impl Iterator<Item = Frame>, value: Vec<i64>, thread: Option<&str>) {
        let location_id = stack.map(|frame| self.location(frame)).collect();
        let label = thread.map(|name| pb::Label { key: self.text("thread"), text: self.text(name) });
        self.message.sample.push(pb::Sample { location_id, value, label: Vec::from_iter(label) });
    }

    /// The bytes of the profile.
    pub(super) fn finish(self) -> io::Result<Vec<u8>> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&self.message.encode_to_vec())?;
        encoder.finish()
    }

    fn kind(&mut self, (kind, unit): ValueType) -> pb::ValueType {
        pb::ValueType { kind: self.text(kind), unit: self.text(unit) }
    }

    fn text(&mut self, text: &str) -> i64 {
        if let Some(index) = self.texts.get(text) {
            return *index;
        }
        let index = self.message.string_table.len() as i64;
        self.message.string_table.push(text.to_owned());
        self.texts.insert(text.to_owned(), index);
        index
    }

    fn function(&mut self, frame: Frame) -> u64 {
        let (name, filename) = (self.text(&frame.function), self.text(&frame.file));
        let next = self.functions.len() as u64 + 1;
        let id = *self.functions.entry((frame.function, frame.file)).or_insert(next);
        if id == next {
            // No name of the linker's: readers would take an equal one for a C++ name
            // and cut what stands in angle brackets.
            self.message.function.push(pb::Function { id, name, system_name: 0, filename });
        }
        id
    }

    fn location(&mut self, frame: Frame) -> u64 {
        let line = frame.line;
        let function_id = self.function(frame);
        let next = self.locations.len() as u64 + 1;
        let id = *self.locations.entry((function_id, line)).or_insert(next);
        if id == next {
            let line = pb::Line { function_id, line: i64::from(line) };
            self.message.location.push(pb::Location { id, line: vec![line] });
        }
        id
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn frame(function: &str, line: u32) -> Frame {
        Frame { function: function.to_owned(), file: "f.rs".to_owned(), line }
    }

    fn decoded(profile: Profile) -> pb::Profile {
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(&profile.finish().unwrap()[..]).read_to_end(&mut bytes).unwrap();
        pb::Profile::decode(&bytes[..]).unwrap()
    }

    #[test]
    fn equal_places_are_told_once() {
        let kinds = [("samples", "count"), ("cpu", "nanoseconds")];
        let period = (("cpu", "nanoseconds"), 10_000_000);
        let mut profile = Profile::new(SystemTime::UNIX_EPOCH, Duration::from_secs(2), &kinds, period);
        profile.add([frame("inner", 1), frame("outer", 2)].into_iter(), vec![3, 30_000_000], Some("t"));
        profile.add([frame("inner", 5), frame("outer", 2)].into_iter(), vec![1, 10_000_000], None);
        profile.look_first_at("cpu");
        let read = decoded(profile);
        let text = |index: i64| read.string_table[index as usize].as_str();
        assert_eq!(text(0), "");
        let told: Vec<_> = read.sample_type.iter().map(|kind| (text(kind.kind), text(kind.unit))).collect();
        assert_eq!(told, kinds);
        assert_eq!(text(read.default_sample_type), "cpu");
        assert_eq!(read.function.iter().map(|f| text(f.name)).collect::<Vec<_>>(), ["inner", "outer"]);
        assert_eq!(read.location.len(), 3);
        assert_eq!(read.sample[0].value, [3, 30_000_000]);
        assert_eq!(read.sample[0].location_id[1], read.sample[1].location_id[1]);
        let threads: Vec<_> = read.sample[0].label.iter().map(|label| text(label.text)).collect();
        assert_eq!(threads, ["t"]);
        assert!(read.sample[1].label.is_empty());
        assert_eq!((read.period, read.duration_nanos), (10_000_000, 2_000_000_000));
    }
}
