//! `skiff server` as its users meet it: on hosts of their own, with the real etcdctl.

mod hosts;

use hosts::{Host, Lab, eventually};
use rustix::process::Signal;
use skiff_test_support::Scratch;

const FIRST: &str = "https://10.77.0.1:6443";

/// Gives hosts the token of the first.
fn give_token(first: &Host, others: &[Host]) {
    for host in others {
        let file = host.dir.join("join-token");
        std::fs::write(&file, first.read("token")).expect("a token file");
        host.configure(&format!("token-file: {}", file.display()));
    }
}

/// Starts the first server and lets the others join it, all at once.
fn cluster(lab: &Lab, count: u8) -> Vec<Host> {
    let mut hosts: Vec<Host> = (1..=count).map(|number| lab.host(number)).collect();
    let (first, others) = hosts.split_first_mut().expect("a first host");
    first.start(&[]);
    first.ready();
    give_token(first, others);
    for host in &mut *others {
        host.start(&["--server", FIRST]);
    }
    for host in others {
        host.ready();
    }
    let expected: Vec<String> = (1..=count).map(|number| format!("s{number} started")).collect();
    for host in &hosts {
        eventually("every member is a voter", || match host.members()? {
            members if members == expected => Ok(()),
            members => Err(format!("{members:?}")),
        });
    }
    hosts
}

#[test]
fn three_servers_are_a_cluster_and_outlive_their_death() {
    let scratch = Scratch::new("server");
    let lab = Lab::new(scratch.path());
    let mut hosts = cluster(&lab, 3);
    hosts[2].etcdctl("put greeting hello").expect("a write on the third");
    assert_eq!(hosts[0].etcdctl("get greeting --print-value-only").as_deref(), Ok("hello\n"));
    // The store takes nobody without a certificate of its own authority.
    let stranger = hosts[0].etcdctl_after("unset ETCDCTL_CERT ETCDCTL_KEY", "--dial-timeout=5s get greeting");
    assert!(stranger.is_err(), "{stranger:?}");

    for host in &hosts {
        host.signal(Signal::KILL);
    }
    for host in hosts.iter_mut().rev() {
        assert_eq!(host.ended().0, None);
    }
    // --server and the token stay in the settings of the two that joined: no matter.
    for host in hosts.iter_mut().rev() {
        let flags: &[&str] = if host.name == "s1" { &[] } else { &["--server", FIRST] };
        host.start(flags);
    }
    for host in &mut hosts {
        host.ready();
    }
    assert_eq!(hosts[1].etcdctl("get greeting --print-value-only").as_deref(), Ok("hello\n"));

    // Whoever stops lets the others go on at once.
    for index in [0, 1] {
        hosts[index].signal(Signal::TERM);
        let (code, log) = hosts[index].ended();
        assert_eq!(code, Some(0), "{log}");
        if index == 0 {
            hosts[2].etcdctl("put greeting again").expect("two of three are a majority");
            hosts[0].start(&[]);
            hosts[0].ready();
        }
    }
    assert_eq!(hosts[0].etcdctl("get greeting --print-value-only").as_deref(), Ok("again\n"));
}

#[test]
fn five_servers_that_join_at_once_all_do() {
    let scratch = Scratch::new("server");
    let lab = Lab::new(scratch.path());
    cluster(&lab, 5);
}

#[test]
fn who_may_not_join_is_told_why_and_changes_nothing() {
    let scratch = Scratch::new("server");
    let lab = Lab::new(scratch.path());
    let mut first = lab.host(1);
    first.start(&["--agent-token", "for-agents-alone"]);
    first.ready();
    let token = first.read("token");
    let (start, password) = token.rsplit_once(':').expect("a full token");
    let hash: String = start.chars().skip(3).take(64).collect();
    let other_hash = token.replace(&hash, &hash.chars().rev().collect::<String>());
    let wrong = format!("{start}:wrong-password");
    let agent = first.read("agent-token");
    let mut stranger = lab.host(9);
    let join = ["--server", FIRST];
    for (flags, parts) in [
        (vec!["--token", &wrong], vec!["not one of this cluster's", "server/token"]),
        (vec!["--token", "wrong-password"], vec!["not one of this cluster's"]),
        (vec!["--token", &agent], vec!["not one of this cluster's"]),
        (vec!["--token", &other_hash], vec!["not of the cluster that the token is for", &hash]),
        (
            vec!["--token", &token, "--cluster-cidr=10.99.0.0/16", "--flannel-backend=host-gw"],
            vec!["--cluster-cidr is \"10.99.0.0/16\" here and \"10.42.0.0/16\"", "--flannel-backend"],
        ),
        (vec!["--token", &token, "--agent-token=another"], vec!["--agent-token is not the cluster's"]),
        (vec!["--token", &token, "--node-name=s1"], vec!["the name s1 is another server's", "member remove"]),
    ] {
        stranger.start(&[&join[..], &flags].concat());
        let (code, log) = stranger.ended();
        assert_eq!(code, Some(1), "{flags:?}:\n{log}");
        for part in parts {
            assert!(log.contains(part), "no {part:?} for {flags:?}:\n{log}");
        }
        assert!(!log.contains(password) && !log.contains("wrong-password"), "{log}");
        assert!(!stranger.server_dir().join("tls").exists(), "{flags:?} left certificates");
        assert!(!stranger.server_dir().join("db/etcd/member").exists(), "{flags:?} left data");
        assert_eq!(first.members().expect("members"), ["s1 started"]);
        std::fs::remove_dir_all(stranger.server_dir()).expect("begin anew");
    }
    // The same host, with the right token, joins.
    stranger.start(&["--server", FIRST, "--token", &token]);
    stranger.ready();
    assert_eq!(stranger.read("agent-token"), agent);
}

#[test]
fn a_removed_server_is_told_so_and_may_join_anew() {
    let scratch = Scratch::new("server");
    let lab = Lab::new(scratch.path());
    let mut hosts = cluster(&lab, 3);
    let listed = hosts[0].etcdctl("member list").expect("members");
    let line = listed.lines().find(|line| line.contains("s3-")).expect("the third");
    let id = line.split(',').next().expect("its id");
    hosts[0].etcdctl(&format!("member remove {id}")).expect("it is removed");
    let (code, log) = hosts[2].ended();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("removed from the cluster") && log.contains("delete server/db/etcd"), "{log}");
    hosts[2].start(&["--server", FIRST]);
    let (code, log) = hosts[2].ended();
    assert!(code == Some(1) && log.contains("delete server/db/etcd"), "{log}");
    std::fs::remove_dir_all(hosts[2].server_dir().join("db/etcd")).expect("what it says");
    hosts[2].start(&["--server", FIRST]);
    hosts[2].ready();
    eventually("it is a member again", || match hosts[0].members()? {
        members if members == ["s1 started", "s2 started", "s3 started"] => Ok(()),
        members => Err(format!("{members:?}")),
    });
}

#[test]
fn a_rotated_token_is_the_token_of_all() {
    let scratch = Scratch::new("server");
    let lab = Lab::new(scratch.path());
    let mut hosts = cluster(&lab, 2);
    let old = hosts[0].read("token");
    let data = |host: &Host| host.dir.join("data").display().to_string();
    let rotated =
        hosts[0].skiff(&["token", "rotate", "--new-token=quite-another", "--data-dir", &data(&hosts[0])]);
    assert!(rotated.status.success(), "{rotated:?}");
    assert!(hosts[0].read("token").ends_with("::server:quite-another"));
    eventually("the other server takes it over", || match hosts[1].read("token") {
        token if token == hosts[0].read("token") => Ok(()),
        token => Err(token),
    });
    // The second still has the old one in its settings.
    hosts[1].signal(Signal::TERM);
    assert_eq!(hosts[1].ended().0, Some(0));
    hosts[1].start(&["--server", FIRST]);
    hosts[1].ready();
    assert!(hosts[1].log().contains("may have been rotated"), "{}", hosts[1].log());
    let mut third = lab.host(3);
    third.start(&["--server", FIRST, "--token", &old]);
    let (code, log) = third.ended();
    assert!(code == Some(1) && log.contains("not one of this cluster's"), "{log}");
}

#[test]
fn one_server_looks_after_tokens_and_certificates() {
    let scratch = Scratch::new("server");
    let lab = Lab::new(scratch.path());
    let mut host = lab.host(1);
    host.start(&["--tls-san=lb.example", "--supervisor-metrics"]);
    host.ready();
    let data = host.dir.join("data").display().to_string();
    let run = |arguments: &[&str]| {
        let output = host.skiff(&[arguments, &["--data-dir", &data]].concat());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success(), text + &String::from_utf8_lossy(&output.stderr))
    };
    let (made, token) =
        run(&["token", "create", "abcdef.0123456789abcdef", "--description=mine", "--ttl=2h"]);
    assert!(made && token.trim().ends_with("::abcdef.0123456789abcdef"), "{token}");
    let (_, listed) = run(&["token", "list"]);
    assert!(
        listed.contains("abcdef") && listed.contains("mine") && !listed.contains("0123456789abcdef"),
        "{listed}"
    );
    assert!(!run(&["token", "create", "abcdef.0123456789abcdef"]).0, "the id is taken");
    assert!(run(&["token", "delete", "abcdef"]).0 && !run(&["token", "delete", "abcdef"]).0);

    let shown = || {
        let script = "openssl s_client -connect 127.0.0.1:6443 </dev/null 2>/dev/null | openssl x509 -noout -serial -ext subjectAltName";
        let output = host.command("sh").args(["-c", script]).output().expect("openssl runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let before = shown();
    assert!(before.contains("lb.example") && before.contains("10.77.0.1"), "{before}");
    for form in ["text", "table", "json", "yaml"] {
        let (good, page) = run(&["certificate", "check", "-o", form]);
        assert!(good && page.contains("etcd/peer-server-client.crt") && page.contains("OK"), "{page}");
    }
    assert!(!run(&["certificate", "check", "--days=400"]).0, "certificates last a year");
    let (rotated, page) = run(&["certificate", "rotate"]);
    assert!(rotated, "{page}");
    eventually("the running server shows the new certificate", || match shown() {
        now if now != before && now.contains("lb.example") => Ok(()),
        now => Err(now),
    });
    eventually("the store takes the new certificates", || host.etcdctl("get a").map(drop));
}

#[test]
fn servers_of_one_database_share_everything() {
    let scratch = Scratch::new("server");
    let lab = Lab::new(scratch.path());
    let mut hosts = [lab.host(1), lab.host(2)];
    let endpoint = format!("--datastore-endpoint=sqlite://{}", scratch.path().join("state.db").display());
    hosts[0].start(&[&endpoint]);
    hosts[0].ready();
    hosts[1].start(&[&endpoint, "--token=another-token"]);
    let (code, log) = hosts[1].ended();
    assert!(code == Some(1) && log.contains("another token") && log.contains("nothing was changed"), "{log}");
    assert!(!hosts[1].server_dir().join("tls").exists());
    let token = hosts[0].read("token");
    hosts[1].start(&[&endpoint, "--token", &token]);
    hosts[1].ready();
    assert_eq!(hosts[0].read("tls/server-ca.key"), hosts[1].read("tls/server-ca.key"));
    let mut third = lab.host(3);
    third.start(&["--server", FIRST, "--token", &token]);
    let (code, log) = third.ended();
    assert!(code == Some(1) && log.contains("--datastore-endpoint"), "{log}");
    for host in &mut hosts {
        host.signal(Signal::TERM);
        assert_eq!(host.ended().0, Some(0));
    }
    hosts[0].start(&[&endpoint]);
    hosts[0].ready();
    assert_eq!(hosts[0].read("token"), token);
}
