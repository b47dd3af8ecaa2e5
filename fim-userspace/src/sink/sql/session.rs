//! A session with the server, whichever of the two it is.

use std::sync::Arc;

use super::fault::Fault;
use super::server::Server;
use super::table::{Table, portions};
use super::value::{Row, Value};
use super::{mysql, postgres};
use crate::config::Dialect;

/// One connection; what was begun on it is undone by the server when it is dropped.
pub struct Session {
    server: Arc<Server>,
    wire: Wire,
}

enum Wire {
    Postgres(postgres::Session),
    Mysql(Box<mysql::Session>),
}

impl Session {
    pub async fn open(server: &Arc<Server>) -> Result<Self, Fault> {
        let wire = match server.dialect {
            Dialect::Postgres => Wire::Postgres(postgres::Session::connect(server).await?),
            Dialect::Mysql => Wire::Mysql(Box::new(mysql::Session::connect(server).await?)),
        };
        Ok(Self { server: server.clone(), wire })
    }

    pub fn server(&self) -> &Server {
        &self.server
    }

    /// One statement; values stand for `?`.
    pub async fn execute(&mut self, sql: &str, values: &[Value]) -> Result<(), Fault> {
        match &mut self.wire {
            Wire::Postgres(session) => session.execute(&self.server, sql, values).await,
            Wire::Mysql(session) => session.execute(&self.server, sql, values).await,
        }
    }

    pub async fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Row>, Fault> {
        match &mut self.wire {
            Wire::Postgres(session) => session.query(&self.server, sql, values).await,
            Wire::Mysql(session) => session.query(&self.server, sql, values).await,
        }
    }

    /// Statements without values, each ended by `;` at the end of a line.
    pub async fn script(&mut self, sql: &str) -> Result<(), Fault> {
        match &mut self.wire {
            Wire::Postgres(session) => session.script(&self.server, sql).await,
            Wire::Mysql(session) => session.script(&self.server, sql).await,
        }
    }

    /// As many statements as `rows` need.
    pub async fn insert(&mut self, table: &Table, rows: Vec<Row>) -> Result<(), Fault> {
        for rows in portions(rows) {
            let sql = table.insert(self.server.dialect, rows.len());
            self.execute(&sql, &rows.concat()).await?;
        }
        Ok(())
    }
}
