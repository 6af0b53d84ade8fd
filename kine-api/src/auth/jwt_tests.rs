use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use serde_json::json;

use super::*;

const RSA: &[u8] = include_bytes!("../../tests/keys/rsa.pem");
const RSA_PKCS1: &[u8] = include_bytes!("../../tests/keys/rsa.pkcs1.pem");
const RSA_PUBLIC: &[u8] = include_bytes!("../../tests/keys/rsa.pub.pem");

fn options(method: &str, private: Option<&[u8]>, public: Option<&[u8]>) -> JwtOptions {
    JwtOptions {
        sign_method: method.to_owned(),
        public_key: public.map(<[u8]>::to_vec),
        private_key: private.map(<[u8]>::to_vec),
        ttl: Duration::from_secs(300),
    }
}

fn keys(method: &str, private: Option<&[u8]>, public: Option<&[u8]>) -> JwtKeys {
    JwtKeys::new(&options(method, private, public)).unwrap()
}

fn refusal(method: &str, private: Option<&[u8]>, public: Option<&[u8]>) -> String {
    JwtKeys::new(&options(method, private, public)).unwrap_err()
}

fn pem(label: &str, der: &[u8]) -> Vec<u8> {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|l| std::str::from_utf8(l).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n")).into_bytes()
}

/// A new EC key, private and public.
fn ec() -> (Vec<u8>, Vec<u8>) {
    let random = SystemRandom::new();
    let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.as_ref(), &random).unwrap();
    let mut public = vec![
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
        0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    public.extend_from_slice(pair.public_key().as_ref());
    (pem("PRIVATE KEY", der.as_ref()), pem("PUBLIC KEY", &public))
}

/// A new Ed25519 key, private and public.
fn ed() -> (Vec<u8>, Vec<u8>) {
    let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(der.as_ref()).unwrap();
    let mut public = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    public.extend_from_slice(pair.public_key().as_ref());
    (pem("PRIVATE KEY", der.as_ref()), pem("PUBLIC KEY", &public))
}

fn caller(user: &str, auth_revision: u64) -> Option<Caller> {
    Some(Caller { user: user.to_owned(), auth_revision })
}

#[test]
fn every_algorithm_signs_and_checks() {
    let ((ec, ec_public), (ed, ed_public)) = (ec(), ed());
    let pairs: [(&str, &[u8], &[u8]); 5] = [
        ("RS256", RSA, RSA_PUBLIC),
        ("PS512", RSA, RSA_PUBLIC),
        ("RS384", RSA_PKCS1, RSA_PUBLIC),
        ("ES256", &ec, &ec_public),
        ("EdDSA", &ed, &ed_public),
    ];
    for (method, private, public) in pairs {
        let both = keys(method, Some(private), Some(public));
        let token = both.sign("alice", 7).unwrap();
        assert_eq!(both.verify(&token), caller("alice", 7), "{method}");
        // The public key follows from the private one, and is enough to check.
        assert_eq!(keys(method, Some(private), None).verify(&token), caller("alice", 7), "{method}");
        let checks_only = keys(method, None, Some(public));
        assert_eq!(checks_only.verify(&token), caller("alice", 7), "{method}");
        let error = checks_only.sign("alice", 7).unwrap_err().to_string();
        assert_eq!(error, "auth: token signing attempted with verify-only key");
    }
    let secret = keys("HS256", Some(b"shared secret"), None);
    assert_eq!(secret.verify(&secret.sign("bob", 9).unwrap()), caller("bob", 9));
}

#[test]
fn keys_that_cannot_serve_are_told() {
    let (ec, ec_public) = ec();
    let (other, _) = self::ec();
    type Row<'a> = (&'a str, Option<&'a [u8]>, Option<&'a [u8]>, &'a str);
    let table: [Row<'_>; 9] = [
        ("none", Some(RSA), None, "is not offered"),
        ("RS1", Some(RSA), None, "is not offered"),
        ("RS256", None, None, "missing"),
        ("HS256", None, Some(RSA_PUBLIC), "priv-key is missing"),
        ("HS256", Some(b""), None, "priv-key is missing"),
        ("RS256", Some(b"nonsense"), None, "priv-key is no private key"),
        ("RS256", None, Some(b"nonsense"), "pub-key is no public key"),
        ("ES256", Some(&other), Some(&ec_public), "do not belong together"),
        ("RS256", Some(&ec), None, "priv-key is no private key"),
    ];
    for (method, private, public, expected) in table {
        let told = refusal(method, private, public);
        assert!(told.contains(expected), "{method}: {told}");
    }
    let printed = format!("{:?}", keys("HS256", Some(b"shared secret"), None));
    assert!(!printed.contains("secret"), "{printed}");
}

fn part(value: &serde_json::Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// A token of any header and claims, signed by `sign`.
fn forged(header: serde_json::Value, claims: serde_json::Value, sign: impl Fn(&str) -> Vec<u8>) -> String {
    let message = format!("{}.{}", part(&header), part(&claims));
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(sign(&message)))
}

fn hmac(secret: &[u8]) -> impl Fn(&str) -> Vec<u8> {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    move |message| ring::hmac::sign(&key, message.as_bytes()).as_ref().to_vec()
}

#[test]
fn forged_tokens_are_nobodys() {
    let claims = json!({"username": "root", "revision": 5, "exp": 4_000_000_000_u64});
    let secret = keys("HS256", Some(b"shared secret"), None);
    let header = |alg: &str| json!({"alg": alg, "typ": "JWT"});
    let sound = forged(header("HS256"), claims.clone(), hmac(b"shared secret"));
    assert_eq!(secret.verify(&sound), caller("root", 5));

    // No signature, in every spelling.
    for none in ["none", "None", "NONE", "nOnE", ""] {
        assert_eq!(secret.verify(&forged(header(none), claims.clone(), |_| Vec::new())), None, "{none}");
    }
    assert_eq!(secret.verify(&forged(json!({"typ": "JWT"}), claims.clone(), hmac(b"shared secret"))), None);
    // Another secret, another algorithm, a changed claim, a cut signature.
    assert_eq!(secret.verify(&forged(header("HS256"), claims.clone(), hmac(b"other"))), None);
    assert_eq!(secret.verify(&forged(header("HS512"), claims.clone(), hmac(b"shared secret"))), None);
    let (message, signature) = sound.rsplit_once('.').unwrap();
    let other = part(&json!({"username": "root", "revision": 6, "exp": 4_000_000_000_u64}));
    let (head, _) = message.split_once('.').unwrap();
    assert_eq!(secret.verify(&format!("{head}.{other}.{signature}")), None);
    assert_eq!(secret.verify(&sound[..sound.len() - 3]), None);
    for nonsense in ["", ".", "..", "a.b", "a.b.c", "a.b.c.d", &"x".repeat(10_000)] {
        assert_eq!(secret.verify(nonsense), None);
    }

    // The public key, which everybody knows, used as a secret.
    let rsa = keys("RS256", Some(RSA), Some(RSA_PUBLIC));
    assert_eq!(rsa.verify(&forged(header("HS256"), claims.clone(), hmac(RSA_PUBLIC))), None);
    assert_eq!(rsa.verify(&forged(header("RS256"), claims, hmac(RSA_PUBLIC))), None);
    let (private, _) = ec();
    assert_eq!(rsa.verify(&keys("ES256", Some(&private), None).sign("root", 5).unwrap()), None);
}

#[test]
fn claims_are_checked() {
    let secret = keys("HS256", Some(b"s"), None);
    let token = |claims| forged(json!({"alg": "HS256"}), claims, hmac(b"s"));
    let table = [
        (json!({"username": "a", "revision": 5, "exp": 1}), None),
        (json!({"username": "a", "revision": 5, "exp": 4_000_000_000_u64}), caller("a", 5)),
        (json!({"username": "a", "revision": 5.0, "exp": 4_000_000_000_u64}), caller("a", 5)),
        (json!({"username": "a", "revision": 5, "exp": 4_000_000_000_u64, "aud": ["x"]}), caller("a", 5)),
        (json!({"username": "a", "revision": 5}), caller("a", 5)),
        (json!({"username": "a", "revision": 5, "nbf": 4_000_000_000_u64}), None),
        (json!({"username": "a", "exp": 4_000_000_000_u64}), None),
        (json!({"revision": 5, "exp": 4_000_000_000_u64}), None),
        (json!({"username": 5, "revision": 5, "exp": 4_000_000_000_u64}), None),
        (json!({"username": "a", "revision": "5", "exp": 4_000_000_000_u64}), None),
        (json!([]), None),
    ];
    for (claims, expected) in table {
        assert_eq!(secret.verify(&token(claims.clone())), expected, "{claims}");
    }
}
