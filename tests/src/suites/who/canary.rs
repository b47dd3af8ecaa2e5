//! The self-test of the sensors: silent while all is well, loud when they are blind.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::fim::{Fim, Policy, Setting};
use crate::record::Record;
use crate::report::Outcome;
use crate::suites::table::skipped;
use crate::wait;

pub fn self_test(setting: &Setting) -> Outcome {
    let work = setting.works.first().ok_or("no folder to work in")?;
    let fim = Fim::new(setting, work, "canary", Policy::Alert)?;
    let text = fs::read_to_string(&fim.config).map_err(|e| e.to_string())?;
    fim.write_config(&text.replacen("[sensor]\n", "[sensor]\nself_test = \"1s\"\n", 1))
        .map_err(|e| e.to_string())?;
    fim.init()?;
    let daemon = fim.start()?;
    let says = |key: &str| Ok::<_, String>(fim.status()?.get(key).cloned().unwrap_or(Value::Null));
    wait::until(setting.patience, || match says("self_test_passed")? {
        Value::Null => Err(format!("no self-test has passed; trouble: {}", says("self_test_trouble")?)),
        _ => Ok(()),
    })?;
    let expected = |r: &Record| matches!(r.kind.as_str(), "started" | "rescanned") || skipped::is_of_them(r);
    if let Some(record) = fim.log_after(0)?.iter().find(|r| !expected(r)) {
        return Err(format!("a self-test that passes leaves a record: {}", record.brief()));
    }
    // Another folder in its place, which no sensor watches.
    let folder = fim.state.join("canary");
    fs::rename(&folder, fim.outside.join("canary")).map_err(|e| e.to_string())?;
    fs::create_dir(&folder).map_err(|e| e.to_string())?;
    fs::set_permissions(&folder, PermissionsExt::from_mode(0o777)).map_err(|e| e.to_string())?;
    wait::until(setting.patience, || match says("self_test_trouble")? {
        Value::String(why) if why.contains("was not seen") => Ok(()),
        other => Err(format!("the status tells of no trouble: {other}")),
    })?;
    wait::until(setting.patience, || {
        let told = fim.log_after(0)?.into_iter().filter(|r| r.kind == "trouble").filter_map(|r| r.message);
        match told.filter(|message| message.contains("self-test")).count() {
            0 => Err("no record tells of it".into()),
            1 => Ok(()),
            more => Err(format!("{more} records tell of one incident")),
        }
    })?;
    daemon.stop(setting.patience)?;
    fim.remove();
    Ok(String::new())
}
