//! Which lanes an alert has: one for each receiver, and one more for critical records where others may have to wait.

use crate::config::{AlertConfig, AlertKind};
use crate::core::route::{Route, Share};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LanePlan {
    /// Names the cursor: `soc`, `ops-sms:+15005550009`, `ops-sms:+15005550009:critical`.
    pub name: String,
    /// The alert's name.
    pub alert: String,
    /// Number or address; `None` where there is but one receiver.
    pub to: Option<String>,
    pub route: Route,
    pub share: Share,
    /// The lane whose cursor a new one begins at: what that one has not delivered is not this one's past.
    pub after: Option<String>,
}

/// `known` says which cursors there are: a lane that once was goes on until it has delivered what it took over.
pub fn lanes(alert: &AlertConfig, known: &dyn Fn(&str) -> bool) -> Vec<LanePlan> {
    let receivers = match &alert.kind {
        AlertKind::Twilio(twilio) => twilio.to.iter().cloned().map(Some).collect(),
        AlertKind::Email(email) => email.to.iter().cloned().map(Some).collect(),
        AlertKind::Webhook(_) => vec![None],
    };
    receivers.into_iter().flat_map(|to| receiver_lanes(alert, to, known)).collect()
}

fn receiver_lanes(alert: &AlertConfig, to: Option<String>, known: &dyn Fn(&str) -> bool) -> Vec<LanePlan> {
    let name = to.as_ref().map_or(alert.name.clone(), |to| format!("{}:{to}", alert.name));
    let critical = format!("{name}:critical");
    let split = alert.route.splits() || known(&critical);
    let lane = |name: String, share, after| LanePlan {
        name,
        alert: alert.name.clone(),
        to: to.clone(),
        route: alert.route.clone(),
        share,
        after,
    };
    match split {
        false => vec![lane(name, Share::All, None)],
        true => vec![lane(name.clone(), Share::Rest, None), lane(critical, Share::Critical, Some(name))],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn alerts(text: &str) -> Vec<AlertConfig> {
        let text = format!("[[watch]]\npath = \"/etc\"\n{text}");
        Config::parse(std::path::Path::new("fim.toml"), &text).expect("valid").alerts
    }

    fn names(alert: &AlertConfig, known: &[&str]) -> Vec<String> {
        lanes(alert, &|name| known.contains(&name)).into_iter().map(|lane| lane.name).collect()
    }

    #[test]
    fn each_receiver_has_a_lane_and_critical_records_their_own() {
        let alerts = alerts(
            "[[alert]]\nname = \"m\"\ntype = \"email\"\nsmtp = \"smtps://h\"\nfrom = \"f@h\"\nto = [\"a@h\", \"b@h\"]\n\
             [[alert]]\ntype = \"webhook\"\nurl = \"https://h\"\n",
        );
        assert_eq!(names(&alerts[0], &[]), ["m:a@h", "m:a@h:critical", "m:b@h", "m:b@h:critical"]);
        assert_eq!(names(&alerts[1], &[]), ["webhook"]);
        let was_split = names(&alerts[1], &["webhook:critical"]);
        assert_eq!(was_split, ["webhook", "webhook:critical"], "what it has not delivered is not lost");
        let lanes = lanes(&alerts[0], &|_| false);
        assert_eq!((lanes[0].share, lanes[1].share), (Share::Rest, Share::Critical));
        assert_eq!((lanes[0].after.as_deref(), lanes[1].after.as_deref()), (None, Some("m:a@h")));
        assert_eq!(lanes[3].to.as_deref(), Some("b@h"));
    }
}
