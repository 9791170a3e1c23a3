//! The settings of the task store.

use std::time::Duration;

use super::source::Source;
use super::{HttpStoreSettings, MysqlSettings, StoreKind, StoreSettings, seconds};

/// Longest name that MySQL and MariaDB know.
const MAX_NAME_CHARS: usize = 64;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Choice {
    Auto,
    Redis,
    Mysql,
    Http,
}

pub(super) fn read(s: &mut Source) -> StoreSettings {
    let choices = [("auto", Choice::Auto), ("redis", Choice::Redis), ("mysql", Choice::Mysql), ("http", Choice::Http)];
    let choice = s.choice(
        "store.kind",
        "auto",
        &choices,
        "Where the status of a task lives: mysql (the backend's table), http (the backend's endpoint), redis (hash hauld:task:<id>), auto (http when its endpoint is set, else mysql when its host is, else redis).",
    );
    let timeout =
        seconds(s.integer("store.timeout_seconds", 5, 1..=60, "Limit of one look or one write, connecting included."));
    let mysql = read_mysql(s, timeout);
    let http = read_http(s, timeout);
    let kind = match choice {
        Choice::Mysql => StoreKind::Mysql,
        Choice::Http => StoreKind::Http,
        Choice::Auto if http.endpoint.is_some() => StoreKind::Http,
        Choice::Auto if !mysql.host.is_empty() => StoreKind::Mysql,
        Choice::Auto | Choice::Redis => StoreKind::Redis,
    };
    StoreSettings { kind, mysql, http }
}

fn read_mysql(s: &mut Source, timeout: Duration) -> MysqlSettings {
    let mut text = |name: &str, fallback, help: &str| s.optional_text(name, fallback, "", help).unwrap_or_default();
    let host =
        text("store.mysql_host", Some("DB_HOST"), "Host of the MySQL or MariaDB server, or the path of its socket.");
    let user = text("store.mysql_user", Some("DB_USER"), "User of the database.");
    let database = text("store.mysql_database", Some("DB_NAME"), "The database that has the table.");
    MysqlSettings {
        host,
        port: s.integer_or("store.mysql_port", Some("DB_PORT"), 3306, 1..=65_535, "Port of the server.") as u16,
        user,
        password: s.secret(
            "store.mysql_password",
            Some("DB_PASSWORD"),
            "File with the password of the database's user.",
        ),
        database,
        table: s.text("store.mysql_table", "download_tasks", "The table of tasks."),
        tls: s.boolean(
            "store.mysql_tls",
            false,
            "Whether the connection is encrypted, and the server's certificate checked.",
        ),
        ca_file: s.optional_path(
            "store.mysql_ca_file",
            "Certificates (PEM) of who signs the server's certificate, instead of those of this host.",
        ),
        connections: s.count("store.mysql_connections", 4, 1..=64, "Connections to the server at once."),
        timeout,
    }
}

fn read_http(s: &mut Source, timeout: Duration) -> HttpStoreSettings {
    let endpoint = "URL below which the backend gives its tasks out: GET and PATCH <endpoint>/<task id>.";
    HttpStoreSettings {
        endpoint: s.optional_url("store.http_endpoint", None, endpoint),
        token: s.bearer("store.http_token", "File with the bearer token for the endpoint."),
        concurrency: s.count("store.http_concurrency", 8, 1..=64, "Requests to the endpoint at once."),
        timeout,
    }
}

impl StoreSettings {
    /// What only makes sense together.
    pub(super) fn cross_check(&self, source: &mut Source) {
        match self.kind {
            StoreKind::Redis => {}
            StoreKind::Mysql => self.mysql.cross_check(source),
            StoreKind::Http if self.http.endpoint.is_none() => {
                source.error("store.http_endpoint", "is needed when store.kind is http");
            }
            StoreKind::Http => {}
        }
    }
}

impl MysqlSettings {
    fn cross_check(&self, source: &mut Source) {
        let needed = [
            ("store.mysql_host", &self.host),
            ("store.mysql_user", &self.user),
            ("store.mysql_database", &self.database),
        ];
        for (name, _) in needed.iter().filter(|(_, value)| value.is_empty()) {
            source.error(name, "is needed for the tasks of a MySQL or MariaDB table");
        }
        if !is_table_name(&self.table) {
            source.error("store.mysql_table", "is not a name of up to 64 letters, digits, _ and $");
        }
        if self.ca_file.is_some() && !self.tls {
            source.error("store.mysql_ca_file", "is of no use: store.mysql_tls is false");
        }
        if self.tls && self.is_socket() {
            source.error("store.mysql_tls", "is of no use: store.mysql_host is a socket of this host");
        }
    }

    /// Whether the host is the path of a socket.
    pub fn is_socket(&self) -> bool {
        self.host.starts_with('/')
    }

    /// The table without user and password, for logs.
    pub fn shown(&self) -> String {
        let MysqlSettings { host, port, database, table, .. } = self;
        match self.is_socket() {
            true => format!("{host}, table {database}.{table}"),
            false => format!("{host}:{port}, table {database}.{table}"),
        }
    }
}

/// A name that needs no escaping between backquotes.
fn is_table_name(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$';
    (1..=MAX_NAME_CHARS).contains(&text.len()) && text.chars().all(is_plain)
}
