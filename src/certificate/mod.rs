//! `skiff certificate`: looks at a server's certificates, and makes them anew.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};
use skiff_control_plane::layout::Layout;
use skiff_control_plane::pki::{Checked, DAY, Facts, LEAVES, Names, Pki, RENEW_BEFORE};

use crate::cli::upkeep::CERTIFICATE;
use crate::cli::{Request, Settings, help};
use crate::{USAGE, etcd, process};

/// Runs the command with these arguments.
pub(crate) fn main(arguments: impl Iterator<Item = String>) -> ExitCode {
    let (settings, words) = match Settings::parse_with_words(&CERTIFICATE, arguments, process::environment())
    {
        Ok((Request::Run(settings), words)) => (settings, words),
        Ok((Request::Version, _)) => {
            print!("{}", etcd::version());
            return ExitCode::SUCCESS;
        }
        Ok((Request::Help, _)) => {
            print!("{}", help::certificate());
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("skiff certificate: {problem}\nSee skiff certificate --help.");
            return ExitCode::from(USAGE);
        }
    };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["check"] => check(&settings),
        ["rotate"] => rotate(&settings),
        _ => {
            eprint!("{}", help::certificate());
            return ExitCode::from(USAGE);
        }
    };
    match done {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("skiff certificate: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// The certificates of the server in a data folder. Names are taken from those that
/// are there.
fn pki(settings: &Settings) -> Result<Pki, String> {
    let tls = Layout::new(Path::new(settings.text("data-dir"))).tls();
    let pki = Pki::new(tls, Names::default());
    if !pki.has_authorities() {
        return Err(format!(
            "there are no authorities in {}: give --data-dir of a server that has started once",
            pki.dir().display()
        ));
    }
    Ok(pki)
}

/// The services asked for; a name that is none is an error.
fn services(settings: &Settings) -> Result<Vec<String>, String> {
    let asked = settings.list("service");
    match asked.iter().find(|name| !LEAVES.iter().any(|leaf| leaf.service == name.as_str())) {
        Some(wrong) => {
            let mut known: Vec<&str> = LEAVES.iter().map(|leaf| leaf.service).collect();
            known.dedup();
            Err(format!("--service: there is no {wrong:?}; there are {}", known.join(", ")))
        }
        None => Ok(asked),
    }
}

fn rotate(settings: &Settings) -> Result<String, String> {
    let pki = pki(settings)?;
    let renewed = pki.rotate_keeping_names(SystemTime::now(), &services(settings)?)?;
    let mut page = String::new();
    for path in renewed {
        page.push_str(&format!("{path}: made anew\n"));
    }
    page.push_str("A running server takes them up for new connections.\n");
    Ok(page)
}

fn check(settings: &Settings) -> Result<String, String> {
    let only = services(settings)?;
    let of_service = |file: &str| {
        let leaf = LEAVES.iter().find(|leaf| file.strip_suffix(".crt") == Some(leaf.path));
        only.is_empty() || leaf.is_some_and(|leaf| only.iter().any(|name| name == leaf.service))
    };
    let checked: Vec<Checked> = pki(settings)?.check()?.into_iter().filter(|c| of_service(&c.file)).collect();
    let now = SystemTime::now();
    let page = match settings.text("output") {
        "table" => table(&checked, now),
        "json" => format!("{:#}\n", as_json(&checked, now)),
        "yaml" => yaml(&checked, now),
        _ => text(&checked, now),
    };
    let days = u32::try_from(settings.int("days")).map_err(|_| "--days is out of range".to_owned())?;
    let ending: Vec<&str> = checked
        .iter()
        .filter(|c| days > 0 && c.facts.iter().any(|facts| facts.ends_within(now, DAY * days)))
        .map(|c| c.file.as_str())
        .collect();
    match ending.is_empty() {
        true => Ok(page),
        false => Err(format!("these end within {days} days: {}\n{page}", ending.join(", "))),
    }
}

/// What is the matter with a certificate.
fn status(facts: &Facts, now: SystemTime) -> &'static str {
    match () {
        () if facts.not_after <= now => "EXPIRED",
        () if facts.not_before > now => "NOT YET VALID",
        // Authorities are not made anew by themselves, but should be looked at as early.
        () if facts.ends_within(now, RENEW_BEFORE) => "WARNING",
        () => "OK",
    }
}

fn shown(at: SystemTime) -> String {
    DateTime::<Utc>::from(at).to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn days_left(facts: &Facts, now: SystemTime) -> u64 {
    facts.not_after.duration_since(now).unwrap_or(Duration::ZERO).as_secs() / DAY.as_secs()
}

fn usages(facts: &Facts) -> String {
    match facts.is_authority {
        true => "CertSign".to_owned(),
        false => facts.usages.join(","),
    }
}

fn each(checked: &[Checked]) -> impl Iterator<Item = (&str, &Facts)> {
    checked.iter().flat_map(|c| c.facts.iter().map(|facts| (c.file.as_str(), facts)))
}

fn text(checked: &[Checked], now: SystemTime) -> String {
    each(checked)
        .map(|(file, facts)| {
            format!(
                "{file}: certificate {} ({}) is {}: it ends at {}, in {} days\n",
                facts.subject,
                usages(facts),
                status(facts, now),
                shown(facts.not_after),
                days_left(facts, now)
            )
        })
        .collect()
}

fn table(checked: &[Checked], now: SystemTime) -> String {
    let mut page =
        format!("{:<32} {:<44} {:<22} {:<22} {}\n", "FILENAME", "SUBJECT", "USAGES", "EXPIRES", "STATUS");
    for (file, facts) in each(checked) {
        page.push_str(&format!(
            "{file:<32} {:<44} {:<22} {:<22} {}\n",
            facts.subject,
            usages(facts),
            shown(facts.not_after),
            status(facts, now)
        ));
    }
    page
}

fn as_json(checked: &[Checked], now: SystemTime) -> Value {
    let entries = each(checked).map(|(file, facts)| {
        json!({
            "filename": file,
            "subject": facts.subject,
            "usages": usages(facts),
            "expiryTime": shown(facts.not_after),
            "residualDays": days_left(facts, now),
            "status": status(facts, now),
        })
    });
    json!({ "certificates": entries.collect::<Vec<_>>() })
}

fn yaml(checked: &[Checked], now: SystemTime) -> String {
    let mut page = "certificates:\n".to_owned();
    for (file, facts) in each(checked) {
        // Texts in JSON's quotes are YAML too.
        page.push_str(&format!(
            "- filename: {}\n  subject: {}\n  usages: {}\n  expiryTime: {}\n  residualDays: {}\n  status: {}\n",
            json!(file),
            json!(facts.subject),
            json!(usages(facts)),
            json!(shown(facts.not_after)),
            days_left(facts, now),
            json!(status(facts, now)),
        ));
    }
    page
}
