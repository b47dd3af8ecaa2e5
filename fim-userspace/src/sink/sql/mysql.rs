//! A session with MySQL or MariaDB.

use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, IoError, OptsBuilder, Params};

use super::fault::Fault;
use super::server::Server;
use super::value::{Row, Value};
use crate::config::Place;
use crate::sink::line::printable;

pub struct Session(Conn);

impl Session {
    pub async fn connect(server: &Server) -> Result<Self, Fault> {
        let limit = server.patience.as_secs().max(1);
        let mut options = OptsBuilder::default()
            .user(Some(&server.user))
            .pass(server.password.as_ref().map(|password| password.expose()))
            .db_name(Some(&server.database))
            .prefer_socket(false)
            .tcp_keepalive(Some(Duration::from_secs(60)))
            .stmt_cache_size(8)
            .init(vec![
                "SET time_zone = '+00:00'".into(),
                "SET NAMES utf8mb4 COLLATE utf8mb4_bin".into(),
                // A value that does not fit is an error and never cut.
                "SET sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'".into(),
                // A session whose client is gone must not keep its locks.
                format!("SET innodb_lock_wait_timeout = {limit}, wait_timeout = 900"),
            ]);
        options = match &server.place {
            Place::Tcp { host, port } => options.ip_or_hostname(host).tcp_port(*port),
            Place::Socket(path) => options.socket(path.to_str()),
        };
        options = options.ssl_opts(server.tls.as_ref().map(|tls| tls.ssl_opts()));
        Conn::new(options).await.map(Self).map_err(|e| explain(server, e))
    }

    pub async fn execute(&mut self, server: &Server, sql: &str, values: &[Value]) -> Result<(), Fault> {
        self.0.exec_drop(sql, fields(values)).await.map_err(|e| explain(server, e))
    }

    pub async fn query(&mut self, server: &Server, sql: &str, values: &[Value]) -> Result<Vec<Row>, Fault> {
        let rows: Vec<mysql_async::Row> =
            self.0.exec(sql, fields(values)).await.map_err(|e| explain(server, e))?;
        Ok(rows.into_iter().map(|row| row.unwrap_raw().into_iter().map(value).collect()).collect())
    }

    /// Several statements without values, each ended by `;` at the end of a line.
    pub async fn script(&mut self, server: &Server, sql: &str) -> Result<(), Fault> {
        for statement in sql.split(";\n").map(str::trim).filter(|s| !s.is_empty()) {
            self.0.query_drop(statement).await.map_err(|e| explain(server, e))?;
        }
        Ok(())
    }
}

fn fields(values: &[Value]) -> Params {
    match values.is_empty() {
        true => Params::Empty,
        false => Params::Positional(values.iter().map(field).collect()),
    }
}

fn field(value: &Value) -> mysql_async::Value {
    use mysql_async::Value as Field;
    match value {
        Value::Null => Field::NULL,
        Value::Bool(value) => Field::Int((*value).into()),
        Value::Int(value) => Field::Int(*value),
        Value::Text(text) => Field::Bytes(text.clone().into_bytes()),
        Value::Bytes(bytes) => Field::Bytes(bytes.clone()),
        Value::Time(time) => {
            let time = time.to_zoned(jiff::tz::TimeZone::UTC);
            let part = |n: i8| n.unsigned_abs();
            // Years before 0 do not come from 64 bits of nanoseconds.
            Field::Date(
                time.year().unsigned_abs(),
                part(time.month()),
                part(time.day()),
                part(time.hour()),
                part(time.minute()),
                part(time.second()),
                u32::from(time.millisecond().unsigned_abs()) * 1_000
                    + u32::from(time.microsecond().unsigned_abs()),
            )
        }
    }
}

fn value(field: Option<mysql_async::Value>) -> Value {
    use mysql_async::Value as Field;
    match field {
        Some(Field::Int(n)) => Value::Int(n),
        Some(Field::UInt(n)) => n.into(),
        Some(Field::Bytes(bytes)) => Value::Bytes(bytes),
        _ => Value::Null,
    }
}

fn explain(server: &Server, error: Error) -> Fault {
    match error {
        Error::Server(said) => {
            let text = printable(&said.message);
            match said.code {
                // Deadlock.
                1213 => Fault::Again(server.refused(&text)),
                // Wrong password or user; no access to the database.
                1045 | 1698 | 1044 => Fault::Refused(server.login(&text)),
                // Table, column or statement refused; no right to make or to lock.
                1142 | 1143 | 1227 | 1370 => Fault::Refused(server.grants(&text)),
                1153 => Fault::Refused(server.refused(&format!(
                    "{text}; raise max_allowed_packet on the server, the record is larger"
                ))),
                // Too many connections; shutting down; killed.
                1040 | 1053 | 1152 | 1184 | 1317 | 1927 => Fault::Lost(server.lost(&text)),
                _ => Fault::Refused(server.refused(&text)),
            }
        }
        Error::Io(IoError::Io(e)) => Fault::Lost(server.lost(&printable(&e.to_string()))),
        Error::Io(IoError::Tls(e)) => Fault::Lost(server.lost(&printable(&e.to_string()))),
        Error::Driver(e) => Fault::Lost(server.lost(&printable(&e.to_string()))),
        other => Fault::Lost(server.lost(&printable(&other.to_string()))),
    }
}
