//! The tables in the central database, and how older ones become present ones.
//!
//! Several hosts may begin at once: the one that has the lock brings the tables up to date, the others then find them so.

use super::fault::Fault;
use super::session::Session;
use super::value::Value;
use crate::config::Dialect;

/// Migration n brings the tables from version n to n + 1 and notes that itself. Never edit one that was released.
const POSTGRES: [&str; 1] = [include_str!("schema/postgres_1.sql")];
const MYSQL: [&str; 1] = [include_str!("schema/mysql_1.sql")];

pub const VERSION: usize = POSTGRES.len();
const _: () = assert!(POSTGRES.len() == MYSQL.len());

/// Any number that nobody else locks in this database.
const POSTGRES_LOCK: &str = "BEGIN;\nSELECT pg_advisory_xact_lock(730814225190);\n";
/// The server's locks are for all its databases, so the name tells which.
const MYSQL_LOCK: &str = "SELECT GET_LOCK(CONCAT('fim.', SHA1(DATABASE())), ?)";
const MYSQL_UNLOCK: &str = "SELECT RELEASE_LOCK(CONCAT('fim.', SHA1(DATABASE())))";

/// Makes or renews the tables; refuses those of a newer fim. Without need it only reads.
pub async fn migrate(session: &mut Session) -> Result<(), Fault> {
    if version(session).await? == VERSION {
        return Ok(());
    }
    match session.server().dialect {
        Dialect::Postgres => {
            session.script(POSTGRES_LOCK).await?;
            apply(session, &POSTGRES).await?;
            session.script("COMMIT;\n").await
        }
        Dialect::Mysql => {
            let seconds = session.server().patience.as_secs().max(1);
            if number(session, MYSQL_LOCK, &[seconds.into()]).await? != 1 {
                return Err(Fault::Lost(session.server().lost("another host is making the tables")));
            }
            apply(session, &MYSQL).await?;
            session.query(MYSQL_UNLOCK, &[]).await.map(drop)
        }
    }
}

async fn apply(session: &mut Session, migrations: &[&str]) -> Result<(), Fault> {
    // Again, with the lock: another host may have been quicker.
    let from = version(session).await?;
    for migration in migrations.iter().skip(from) {
        session.script(migration).await?;
    }
    Ok(())
}

/// 0 without tables.
async fn version(session: &mut Session) -> Result<usize, Fault> {
    let present = "SELECT COUNT(*) FROM information_schema.tables
                   WHERE table_name = 'fim_schema' AND table_schema = ";
    let present = match session.server().dialect {
        Dialect::Postgres => format!("{present} current_schema()"),
        Dialect::Mysql => format!("{present} DATABASE()"),
    };
    if number(session, &present, &[]).await? == 0 {
        return Ok(0);
    }
    let found = number(session, "SELECT MAX(version) FROM fim_schema", &[]).await?;
    match usize::try_from(found) {
        Ok(version) if version <= VERSION => Ok(version),
        _ => Err(Fault::Refused(format!(
            "the tables in the central database are of version {found}, and this fim knows them up to {VERSION}; \
             update fim on this host, it then goes on by itself"
        ))),
    }
}

/// The one number that `sql` selects; 0 for NULL.
async fn number(session: &mut Session, sql: &str, values: &[Value]) -> Result<i64, Fault> {
    let rows = session.query(sql, values).await?;
    Ok(rows.first().and_then(|row| row.first()).and_then(Value::int).unwrap_or(0))
}
