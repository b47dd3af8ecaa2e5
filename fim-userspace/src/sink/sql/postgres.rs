//! A session with PostgreSQL.

use std::error::Error as _;
use std::time::Duration;

use bytes::BytesMut;
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::fault::Fault;
use super::server::Server;
use super::table::numbered;
use super::value::{Row, Value};
use crate::config::Place;
use crate::sink::line::printable;

type Any = Box<dyn std::error::Error + Sync + Send>;

pub struct Session {
    client: Client,
    /// Carries the bytes; the session ends with it.
    carrier: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.carrier.abort();
    }
}

impl Session {
    pub async fn connect(server: &Server) -> Result<Self, Fault> {
        let mut config = Config::new();
        config.user(&server.user).dbname(&server.database).application_name("fim");
        match &server.place {
            Place::Tcp { host, port } => config.host(host).port(*port),
            Place::Socket(folder) => config.host_path(folder),
        };
        if let Some(password) = &server.password {
            config.password(password.expose());
        }
        config.keepalives_idle(Duration::from_secs(60)).ssl_mode(match server.tls {
            Some(_) => SslMode::Require,
            None => SslMode::Disable,
        });
        let said = |error| explain(server, error);
        let (client, carrier) = match &server.tls {
            Some(tls) => {
                let tls = MakeRustlsConnect::new(tls.client_config());
                let (client, connection) = config.connect(tls).await.map_err(said)?;
                (client, tokio::spawn(async move { drop(connection.await) }))
            }
            None => {
                let (client, connection) = config.connect(NoTls).await.map_err(said)?;
                (client, tokio::spawn(async move { drop(connection.await) }))
            }
        };
        let mut session = Self { client, carrier };
        let limit = server.patience.as_millis();
        // A session whose client is gone must not keep its locks.
        let settings = format!(
            "SET statement_timeout = {limit}; SET lock_timeout = {limit}; SET synchronous_commit = on;
             SET idle_in_transaction_session_timeout = {limit}; SET timezone = 'UTC'"
        );
        session.script(server, &settings).await?;
        Ok(session)
    }

    pub async fn execute(&mut self, server: &Server, sql: &str, values: &[Value]) -> Result<(), Fault> {
        let sql = numbered(sql);
        self.client.execute(&sql, &fields(values)).await.map(drop).map_err(|e| explain(server, e))
    }

    pub async fn query(&mut self, server: &Server, sql: &str, values: &[Value]) -> Result<Vec<Row>, Fault> {
        let sql = numbered(sql);
        let rows = self.client.query(&sql, &fields(values)).await;
        let read = |row: tokio_postgres::Row| {
            (0..row.len()).map(|n| row.try_get(n).map_err(|e| explain(server, e))).collect()
        };
        rows.map_err(|e| explain(server, e))?.into_iter().map(read).collect()
    }

    /// Several statements without values.
    pub async fn script(&mut self, server: &Server, sql: &str) -> Result<(), Fault> {
        self.client.batch_execute(sql).await.map_err(|e| explain(server, e))
    }
}

fn fields(values: &[Value]) -> Vec<&(dyn ToSql + Sync)> {
    values.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

fn explain(server: &Server, error: tokio_postgres::Error) -> Fault {
    let Some(said) = error.as_db_error() else {
        let cause = innermost(&error);
        return match error.is_closed() {
            true => Fault::Lost(server.lost("the connection was closed")),
            false => Fault::Lost(server.lost(&cause)),
        };
    };
    let text = printable(said.message());
    match said.code() {
        &SqlState::T_R_DEADLOCK_DETECTED | &SqlState::T_R_SERIALIZATION_FAILURE => {
            Fault::Again(server.refused(&text))
        }
        &SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            Fault::Refused(server.login(&text))
        }
        &SqlState::INSUFFICIENT_PRIVILEGE => Fault::Refused(server.grants(&text)),
        code if ["08", "57", "53"].iter().any(|class| code.code().starts_with(class)) => {
            Fault::Lost(server.lost(&text))
        }
        _ => Fault::Refused(server.refused(&text)),
    }
}

/// The first error only says what was being done.
fn innermost(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        text = e.to_string();
        cause = e.source();
    }
    printable(&text)
}

impl ToSql for Value {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Any> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Bool(value) => value.to_sql_checked(ty, out),
            Self::Int(value) => value.to_sql_checked(ty, out),
            Self::Text(value) => value.to_sql_checked(ty, out),
            Self::Bytes(value) => value.to_sql_checked(ty, out),
            Self::Time(value) => value.to_sql_checked(ty, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        // Each kind of value checks for itself.
        true
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Value {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Any> {
        match *ty {
            Type::INT8 => i64::from_sql(ty, raw).map(Self::Int),
            Type::INT4 => i32::from_sql(ty, raw).map(|n| Self::Int(n.into())),
            Type::BYTEA => Vec::from_sql(ty, raw).map(Self::Bytes),
            _ => String::from_sql(ty, raw).map(Self::Text),
        }
    }

    fn from_sql_null(_: &Type) -> Result<Self, Any> {
        Ok(Self::Null)
    }

    fn accepts(ty: &Type) -> bool {
        [Type::INT8, Type::INT4, Type::BYTEA].contains(ty) || <String as FromSql>::accepts(ty)
    }
}
