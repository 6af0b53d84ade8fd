use std::fs;
use std::path::Path;

use super::*;
use crate::pki::Names;
use crate::records::in_memory;
use crate::token::SharedSecrets;

fn pki(dir: &Path, name: &str) -> Pki {
    Pki::new(dir.join(name), Names::default())
}

fn given(passwords: &[&str]) -> Given {
    Given { passwords: passwords.iter().map(|text| (*text).to_owned()).collect(), agent: None }
}

fn refusal(result: Result<Established, EstablishError>) -> String {
    match result {
        Err(EstablishError::Refused(text)) => text,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was taken"),
    }
}

#[tokio::test]
async fn the_second_server_has_what_the_first_has() {
    let dir = tempfile::tempdir().unwrap();
    let records = in_memory();
    let first = pki(dir.path(), "a");
    let made = establish(&records, &first, &given(&[])).await.unwrap();
    let token = made.secrets.server.clone();
    let second = pki(dir.path(), "b");
    let error = refusal(establish(&records, &second, &given(&["wrong"])).await);
    assert!(error.contains("another token") && error.contains("nothing was changed"), "{error}");
    assert!(refusal(establish(&records, &second, &given(&[])).await).contains("this one has none"));
    assert!(!second.dir().exists(), "a wrong token leaves nothing behind");

    let joined = establish(&records, &second, &given(&[&token])).await.unwrap();
    assert_eq!((joined.secrets.clone(), joined.replaced.len()), (made.secrets, 0));
    for file in ["server-ca.key", "etcd/peer-ca.crt", "service.key"] {
        assert_eq!(fs::read(first.dir().join(file)).unwrap(), fs::read(second.dir().join(file)).unwrap());
    }
    // A later start knows the token by what is on the disk.
    assert_eq!(establish(&records, &second, &given(&[])).await.unwrap().secrets, joined.secrets);
}

#[tokio::test]
async fn the_datastore_is_right_whichever_is_newer() {
    let dir = tempfile::tempdir().unwrap();
    let records = in_memory();
    let first = pki(dir.path(), "a");
    establish(&records, &first, &given(&["token-of-all"])).await.unwrap();
    let right = fs::read(first.file("server-ca", "crt")).unwrap();
    let other = pki(dir.path(), "b");
    other.ensure_authorities().unwrap();
    let wrong = fs::read(other.file("server-ca", "crt")).unwrap();
    let taken = establish(&records, &other, &given(&["token-of-all"])).await.unwrap();
    assert!(taken.replaced.contains(&"server-ca.crt".to_owned()), "{:?}", taken.replaced);
    assert_eq!(fs::read(other.file("server-ca", "crt")).unwrap(), right);
    let aside = fs::read_dir(other.dir())
        .unwrap()
        .flatten()
        .find(|e| e.file_name().to_string_lossy().starts_with("replaced-"));
    assert_eq!(fs::read(aside.unwrap().path().join("server-ca.crt")).unwrap(), wrong);
}

#[tokio::test]
async fn servers_that_start_together_agree() {
    let dir = tempfile::tempdir().unwrap();
    let records = in_memory();
    let all = ["a", "b", "c", "d"].map(|name| pki(dir.path(), name));
    let shared = given(&["same-for-all"]);
    let [a, b, c, d] = &all;
    let (a, b, c, d) = tokio::join!(
        establish(&records, a, &shared),
        establish(&records, b, &shared),
        establish(&records, c, &shared),
        establish(&records, d, &shared)
    );
    assert!([a, b, c, d].iter().all(Result::is_ok));
    let bundles: Vec<Vec<u8>> = all.iter().map(|pki| pki.bundle(Ca::Server).unwrap()).collect();
    assert!(bundles.windows(2).all(|pair| pair[0] == pair[1]));
    // With tokens of their own only one of them is the first.
    let (records, one, two) = (in_memory(), pki(dir.path(), "e"), pki(dir.path(), "f"));
    let (first, second) = (given(&["one-token"]), given(&["two-token"]));
    let (one, two) = tokio::join!(establish(&records, &one, &first), establish(&records, &two, &second));
    assert_eq!([one.is_ok(), two.is_ok()].iter().filter(|ok| **ok).count(), 1);
}

#[tokio::test]
async fn a_rotated_token_is_everyones_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let records = in_memory();
    let first = pki(dir.path(), "a");
    let made = establish(&records, &first, &given(&["old-token"])).await.unwrap();
    let second = pki(dir.path(), "b");
    establish(&records, &second, &given(&["old-token"])).await.unwrap();
    let shared = SharedSecrets::new(records.clone(), made.key, made.secrets);
    for wrong in ["short", "with space", "K10abc::server:password", "old-token"] {
        assert!(rotate(&records, &first, &shared, Some(wrong.into())).await.is_err(), "{wrong}");
    }
    let new = rotate(&records, &first, &shared, Some("new-token".into())).await.unwrap();
    assert_eq!(*shared.current(), new);
    // The other server starts with its old setting: it is told, and goes on.
    let started = establish(&records, &second, &given(&["old-token"])).await.unwrap();
    assert_eq!(started.secrets.server, "new-token");
    assert!(started.warnings[0].contains("rotated"), "{:?}", started.warnings);
    // Who has the old token alone has nothing.
    let stranger = pki(dir.path(), "c");
    assert!(refusal(establish(&records, &stranger, &given(&["old-token"])).await).contains("another token"));
    assert!(establish(&records, &stranger, &given(&["new-token"])).await.is_ok());
}

#[test]
fn a_bundle_of_another_version_is_named() {
    assert_eq!(Bundle::read(b"{\"version\":2}").err(), Some(OpenError::Version("2".into())));
    for text in
        [&b""[..], b"[]", b"{\"version\":1}", b"{\"version\":1,\"secrets\":{\"server\":\"x\"},\"files\":{}}"]
    {
        assert!(matches!(Bundle::read(text), Err(OpenError::Damaged(_))));
    }
}
