//! A private PgBouncer in front of a PostgreSQL.

use std::path::Path;

use rustix::process::Signal;

use super::PostgresServer;
use super::process::{Process, Scratch, command_as, free_port, give, listens};

/// The user as whom it runs when we are root, for it refuses to be root.
const USER: &str = "postgres";

/// A PgBouncer in transaction mode.
pub struct PgBouncer {
    folder: Scratch,
    pub port: u16,
    process: Process,
}

impl PgBouncer {
    /// Starts one before `server`.
    pub fn start(server: &PostgresServer) -> Self {
        let folder = Scratch::new("skiff-pgbouncer-");
        let port = free_port();
        write_settings(&folder, port, server.port);
        let file = folder.path().join("pgbouncer.ini");
        let mut command = command_as(USER, Path::new("/usr/sbin/pgbouncer"));
        command.current_dir(folder.path()).arg(&file);
        let process = Process::start(command, folder.path(), Signal::INT, move || listens(port));
        Self { folder, port, process }
    }

    /// Stands before another server from now on: transactions that begin are
    /// taken there, on the connections of clients that are there already.
    pub fn retarget(&mut self, server: &PostgresServer) {
        write_settings(&self.folder, self.port, server.port);
        self.process.signal(Signal::HUP);
    }

    /// The endpoint of `database` through it.
    pub fn endpoint(&self, database: &str) -> String {
        format!("postgres://postgres:postgres@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }
}

fn write_settings(folder: &Scratch, port: u16, server: u16) {
    let settings = format!(
        "[databases]\n* = host=127.0.0.1 port={server} user=postgres password=postgres\n\
         [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
         auth_type = any\npool_mode = transaction\nmax_client_conn = 500\ndefault_pool_size = 10\n"
    );
    std::fs::write(folder.path().join("pgbouncer.ini"), settings).expect("write the settings");
    give(folder.path(), USER);
}
