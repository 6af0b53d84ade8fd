//! `snapshot export`: a snapshot in etcd's own format.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use skiff_store::Error;
use skiff_store::etcd_snapshot::{Written, write};

use skiff_store::mvcc::Mvcc;

use super::Problem;
use super::arguments::Arguments;
use super::output;
use super::source::Source;
use super::status::human;

pub(super) fn run(arguments: &Arguments) -> Result<(), Problem> {
    let (place, target) = arguments.place_and_file()?;
    let source = Source::open(&place, arguments)?;
    let state = source.state()?;
    let part = beside(&target)?;
    let written = export(&state.mvcc, &part, &target, |error| source.explain(error))?;
    report(arguments, &target, &written)
}

/// Writes a snapshot into the file `part`, which becomes `target` once it is
/// whole.
pub(crate) fn export(
    mvcc: &Mvcc,
    part: &Path,
    target: &Path,
    explain: impl FnOnce(Error) -> String,
) -> Result<Written, String> {
    let failed = |e: std::io::Error| format!("{}: {e}", target.display());
    let file = create(part).map_err(failed)?;
    let written = write(mvcc, file).map_err(explain);
    let done = written.and_then(|written| finish(part, target).map(|()| written).map_err(failed));
    if done.is_err() {
        // Of no use to anyone.
        let _ = fs::remove_file(part);
    }
    done
}

/// Where the file is until it is whole, as etcdctl does it.
pub(crate) fn beside(target: &Path) -> Result<PathBuf, Problem> {
    let name = target.file_name().filter(|_| !target.is_dir());
    let mut name =
        name.ok_or_else(|| Problem::Usage(format!("{} is no name of a file", target.display())))?.to_owned();
    name.push(".part");
    Ok(target.with_file_name(name))
}

/// For its owner alone: it holds all secrets that the store holds.
fn create(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn finish(part: &Path, target: &Path) -> std::io::Result<()> {
    fs::rename(part, target)?;
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

fn report(arguments: &Arguments, target: &Path, written: &Written) -> Result<(), Problem> {
    let mut answer: Map<String, Value> = Map::new();
    answer.insert("file".into(), target.display().to_string().into());
    answer.insert("revision".into(), written.revision.into());
    answer.insert("size".into(), written.size.into());
    let simple = format!(
        "wrote {} at revision {} ({}): etcdutl snapshot restore {} --data-dir ...\n",
        target.display(),
        written.revision,
        human(written.size),
        target.display(),
    );
    output::answer(arguments, &answer, &simple, &[])
}
