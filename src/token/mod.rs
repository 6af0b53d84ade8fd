//! `skiff token`: asks a running server over HTTPS, with the servers' token.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use hyper::Method;
use skiff_control_plane::files;
use skiff_control_plane::join::{Client, ServerUrl, trusted};
use skiff_control_plane::layout::Layout;
use skiff_control_plane::supervisor::Rotation;
use skiff_control_plane::token::bootstrap::Wanted;
use skiff_control_plane::token::{BootstrapToken, random};
use skiff_token::Token;

use crate::cli::upkeep::TOKEN;
use crate::cli::{Request, Settings, help};
use crate::{USAGE, etcd, process};

/// Runs the command with these arguments.
pub(crate) fn main(arguments: impl Iterator<Item = String>) -> ExitCode {
    let (settings, words) = match Settings::parse_with_words(&TOKEN, arguments, process::environment()) {
        Ok((Request::Run(settings), words)) if !words.is_empty() => (settings, words),
        Ok((Request::Version, _)) => {
            print!("{}", etcd::version());
            return ExitCode::SUCCESS;
        }
        Ok((Request::Help, _)) => {
            print!("{}", help::token());
            return ExitCode::SUCCESS;
        }
        Ok((Request::Run(_), _)) => {
            eprint!("{}", help::token());
            return ExitCode::from(USAGE);
        }
        Err(problem) => {
            eprintln!("skiff token: {problem}\nSee skiff token --help.");
            return ExitCode::from(USAGE);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done =
        runtime.map_err(|e| format!("cannot start: {e}")).and_then(|rt| rt.block_on(run(&settings, &words)));
    match done {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("skiff token: {problem}");
            ExitCode::FAILURE
        }
    }
}

async fn run(settings: &Settings, words: &[String]) -> Result<String, String> {
    match (words[0].as_str(), &words[1..]) {
        ("generate", []) => Ok(format!("{}\n", random::bootstrap_token()?)),
        ("create", []) => create(settings, None).await,
        ("create", [token]) => create(settings, Some(token.clone())).await,
        ("list", []) => list(settings).await,
        ("delete", ids @ [_, ..]) => delete(settings, ids).await,
        ("rotate", []) => rotate(settings).await,
        ("delete", []) => Err("give the ids of the tokens to delete; skiff token list tells them".to_owned()),
        (word, _) => Err(format!(
            "{word:?} is none of create, list, delete, generate, rotate, or has too many words \
                                  after it; see skiff token --help"
        )),
    }
}

async fn create(settings: &Settings, token: Option<String>) -> Result<String, String> {
    let wanted = Wanted {
        token,
        ttl_seconds: settings.duration("ttl").as_secs(),
        usages: settings.list("usages"),
        groups: settings.list("groups"),
        description: settings.text("description").to_owned(),
    };
    let body = serde_json::to_vec(&wanted).map_err(|e| e.to_string())?;
    let token = ask(settings, Method::POST, "/tokens", Some(body)).await?;
    Ok(format!("{token}\n"))
}

async fn list(settings: &Settings) -> Result<String, String> {
    let text = ask(settings, Method::GET, "/tokens", None).await?;
    if settings.text("output") == "json" {
        return Ok(format!("{text}\n"));
    }
    let tokens: Vec<BootstrapToken> =
        serde_json::from_str(&text).map_err(|e| format!("the answer is no list: {e}"))?;
    let mut page = format!("{:<8} {:<10} {:<24} {}\n", "TOKEN", "TTL", "USAGES", "DESCRIPTION");
    for token in tokens {
        page.push_str(&format!(
            "{:<8} {:<10} {:<24} {}\n",
            token.id,
            left(token.expires),
            token.usages.join(","),
            token.description
        ));
    }
    Ok(page)
}

/// The time a token has left, in words.
fn left(expires: Option<u64>) -> String {
    let Some(end) = expires else { return "forever".to_owned() };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let seconds = end.saturating_sub(now);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        _ => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
    }
}

async fn delete(settings: &Settings, ids: &[String]) -> Result<String, String> {
    let mut done = String::new();
    for text in ids {
        // The whole token does too; the secret is not sent.
        let id = text.split('.').next().unwrap_or(text);
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(format!("{id:?} is no id of a token"));
        }
        ask(settings, Method::DELETE, &format!("/tokens/{id}"), None).await?;
        done.push_str(&format!("token {id} deleted\n"));
    }
    Ok(done)
}

async fn rotate(settings: &Settings) -> Result<String, String> {
    let new_token = Some(settings.text("new-token").to_owned()).filter(|text| !text.is_empty());
    let body = serde_json::to_vec(&Rotation { new_token }).map_err(|e| e.to_string())?;
    let token = ask(settings, Method::PUT, "/token", Some(body)).await?;
    Ok(format!(
        "{token}\nThe other servers take it over within seconds. Change --token where it is set; agents that join \
         from now on need it.\n"
    ))
}

/// Asks the server; what it refuses is an error.
async fn ask(
    settings: &Settings,
    method: Method,
    path: &str,
    body: Option<Vec<u8>>,
) -> Result<String, String> {
    let client = client(settings).await?;
    let path = format!("{}{path}", skiff_token::wire::PREFIX);
    let reply = client.call(method, &path, body).await.map_err(|e| e.to_string())?;
    match reply.status.is_success() {
        true => Ok(String::from_utf8_lossy(&reply.body).into_owned()),
        false => Err(reply.message()),
    }
}

async fn client(settings: &Settings) -> Result<Client, String> {
    let server =
        ServerUrl::parse(settings.text("server")).map_err(|problem| format!("--server: {problem}"))?;
    let layout = Layout::new(Path::new(settings.text("data-dir")));
    let text = match settings.text("token") {
        "" => files::read_line(&layout.token())?.ok_or_else(|| {
            format!("{} is not there: give --data-dir of a server, or --token", layout.token().display())
        })?,
        text => text.to_owned(),
    };
    let token: Token = text.parse().map_err(|e| format!("--token: {e}"))?;
    trusted(&server, &token).await.map_err(|e| e.to_string())
}
