//! How etcd's whole surface stands: scripts sent to a real etcd and to this
//! project's server, and `docs/etcd-compatibility.md` made of the outcome.

mod coverage;
mod listed;
mod page;
mod script;
mod side;

use coverage::Coverage;
use script::{Action, Expectation, Item};
use side::Side;
use skiff_test_support::gateway::PATHS;
use skiff_test_support::{Program, Scratch};

/// Run in this order on one pair of servers: later ones build on revisions of
/// earlier ones.
const SCRIPTS: &[(&str, &str)] = &[
    ("kv", include_str!("scripts/kv.txt")),
    ("watch_lease", include_str!("scripts/watch_lease.txt")),
    ("cluster_maintenance", include_str!("scripts/cluster_maintenance.txt")),
    ("lock_election", include_str!("scripts/lock_election.txt")),
    ("http", include_str!("scripts/http.txt")),
    ("auth", include_str!("scripts/auth.txt")),
    ("two_members", include_str!("scripts/two_members.txt")),
];

/// Methods the gateway does not reach, and where they are tested.
const BESIDE_THE_GATEWAY: &[(&str, &str)] =
    &[("etcdserverpb.KV.RangeStream", "compared with Range in tests/kubernetes_load.rs")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_surface_stands_as_the_page_says() {
    let binary = env!("CARGO_BIN_EXE_skiff");
    let scratch = Scratch::new("compatibility");
    let dir = |name| scratch.path().join(name);
    let mut oracle = Side::start(Program::oracle(), &dir("etcd")).await.expect("etcd starts");
    let mut subject = Side::start(Program::subject(binary), &dir("subject")).await.expect("it starts");
    let mut coverage = Coverage::new();
    let mut items = Vec::new();
    let mut faults = Vec::new();
    for (name, text) in SCRIPTS {
        let script = script::parse(text).unwrap_or_else(|fault| panic!("scripts/{name}.txt, {fault}"));
        for item in script {
            if let Err(fault) = run(&item, &mut oracle, &mut subject, &mut coverage).await {
                faults.push(format!("{}, {}:\n{fault}", item.heading, item.name));
            }
            items.push(item);
        }
    }
    report(&faults);
    for method in coverage.methods() {
        let scripted = PATHS.iter().any(|(_, known)| known == method);
        if !scripted && !BESIDE_THE_GATEWAY.iter().any(|(known, _)| known == method) {
            faults.push(format!("no script calls {method}"));
        }
    }
    let flags = listed::flags(&skiff_test_support::tools::oracle().etcd, binary).unwrap_or_else(|missing| {
        faults.push(format!("flags without a place: {missing:?}"));
        Vec::new()
    });
    let fields = coverage.fields().unwrap_or_else(|missing| {
        faults.push(format!("fields without a place:\n{}", missing.join("\n")));
        coverage::Fields::new()
    });
    let metrics = listed::metrics(&oracle, &subject).await.expect("both tell their metrics");
    let metrics = metrics.unwrap_or_else(|missing| {
        faults.push(format!("metrics without a place: {missing:#?}"));
        Vec::new()
    });
    report(&faults);
    check_page(&page::page(&items, &fields, &flags, &metrics));
}

fn report(faults: &[String]) {
    assert!(faults.is_empty(), "{} differences:\n\n{}", faults.len(), faults.join("\n\n"));
}

/// Does an item's steps on both servers and compares what they tell.
async fn run(
    item: &Item,
    oracle: &mut Side,
    subject: &mut Side,
    coverage: &mut Coverage,
) -> Result<(), String> {
    let mut differences: Vec<String> = Vec::new();
    for step in &item.steps {
        let (expected, found) = tokio::join!(oracle.run(step), subject.run(step));
        let expected = expected.map_err(|fault| format!("{}\n  etcd: {fault}", step.text))?;
        let found = found.map_err(|fault| format!("{}\n  here: {fault}", step.text))?;
        if let Action::Post { path, bodies, .. } = &step.action {
            coverage.note(path, bodies, [&expected.answers, &found.answers]);
        } else if let Action::Login(..) = &step.action {
            coverage.note("auth/authenticate", &[], [&expected.answers, &found.answers]);
        }
        let (expected, mut found) = (expected.comparable(), found.comparable());
        side::forgive_headers(&expected, &mut found);
        if expected != found {
            let difference = format!("{}\n  etcd: {expected:?}\n  here: {found:?}", step.text);
            differences.push(difference.chars().take(4000).collect());
        }
    }
    match &item.expectation {
        Expectation::Equal if !differences.is_empty() => Err(differences.join("\n")),
        Expectation::Differs(how) if differences.is_empty() => {
            Err(format!("nothing differs, but was meant to: {how}"))
        }
        _ => Ok(()),
    }
}

fn check_page(page: &str) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/etcd-compatibility.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, page).expect("the page can be written");
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == page,
        "docs/etcd-compatibility.md is stale: UPDATE_DOCS=1 cargo test --test compatibility rewrites it"
    );
}
