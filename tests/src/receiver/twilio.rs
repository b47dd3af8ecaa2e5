//! Twilio's call that sends a message, held to by its published OpenAPI description (`data/twilio`): a field that it does
//! not know, a value of another form, another way to sign in are refused.

use base64::Engine;
use jsonschema::Validator;
use serde_json::{Map, Value, json};

use super::http::{Act, Request};

const PUBLISHED: &str = include_str!("../../data/twilio/messages.openapi.json");
const PATH: &str = "/2010-04-01/Accounts/{AccountSid}/Messages.json";
/// Of a body, as the description says in words.
const LONGEST: usize = 1_600;

pub struct Twilio {
    form: Value,
    account: Validator,
    request: Validator,
    answer: Validator,
    /// At least one of each group must be there.
    groups: Vec<Vec<String>>,
    example: Value,
    user: String,
    password: String,
}

impl Twilio {
    /// `user` and `password` are the ones that may sign in. Fails when the description is not what it was.
    pub fn published(user: &str, password: &str) -> Result<Self, String> {
        let published: Value = serde_json::from_str(PUBLISHED).map_err(|e| e.to_string())?;
        let operation = &published["paths"][PATH]["post"];
        let scheme = &published["components"]["securitySchemes"]["accountSid_authToken"];
        if operation["security"] != json!([{ "accountSid_authToken": [] }])
            || *scheme != json!({ "type": "http", "scheme": "basic" })
        {
            return Err(format!("the description signs in otherwise: {scheme}"));
        }
        let form = &operation["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"];
        let answer = &operation["responses"]["201"]["content"]["application/json"];
        let conditional = operation["x-twilio"]["conditional"].as_array().ok_or("no conditional fields")?;
        let camel = |name: &Value| {
            let words = name.as_str().unwrap_or_default().split('_');
            words.map(|word| word[..1].to_uppercase() + &word[1..]).collect::<String>()
        };
        let groups = conditional
            .iter()
            .map(|group| group.as_array().into_iter().flatten().map(camel).collect())
            .collect();
        Ok(Self {
            account: validator(&published, &operation["parameters"][0]["schema"])?,
            request: validator(&published, form)?,
            answer: validator(&published, &answer["schema"])?,
            example: answer["examples"]["createWoService"]["value"].clone(),
            form: form.clone(),
            groups,
            user: user.into(),
            password: password.into(),
        })
    }

    /// The fields of the form; else what is wrong with the request.
    pub fn check(&self, request: &Request) -> Result<Map<String, Value>, String> {
        let sid =
            request.path.strip_prefix("/2010-04-01/Accounts/").and_then(|p| p.strip_suffix("/Messages.json"));
        let sid = sid.ok_or_else(|| format!("there is no such path: {}", request.path))?;
        valid(&self.account, &json!(sid))?;
        if request.method != "POST" {
            return Err(format!("{} is not how a message is made", request.method));
        }
        let signed =
            base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", self.user, self.password));
        if request.header("authorization") != Some(&format!("Basic {signed}")) {
            return Err(format!("it does not sign in as {}", self.user));
        }
        if request.header("content-type") != Some("application/x-www-form-urlencoded") {
            return Err(format!("the body is no form but {:?}", request.header("content-type")));
        }
        let form = self.read(&request.body)?;
        valid(&self.request, &Value::Object(form.clone()))?;
        if let Some(group) =
            self.groups.iter().find(|group| !group.iter().any(|name| form.contains_key(name)))
        {
            return Err(format!("none of {group:?} is there"));
        }
        let body = form.get("Body").and_then(Value::as_str).unwrap_or_default();
        match body.chars().count() {
            1..=LONGEST => Ok(form),
            length => Err(format!("a body of {length} characters")),
        }
    }

    /// A form as JSON, each value of the type that the description says.
    fn read(&self, body: &[u8]) -> Result<Map<String, Value>, String> {
        let mut form = Map::new();
        for (name, text) in form_urlencoded::parse(body).into_owned() {
            if text.contains('\u{fffd}') {
                return Err(format!("{name} is not UTF-8: {text:?}"));
            }
            let bad = |_| format!("{name} is {text:?}");
            let value = match self.form["properties"][&name]["type"].as_str() {
                Some("array") => {
                    let list = form.entry(name).or_insert_with(|| json!([]));
                    list.as_array_mut().ok_or("a list and none")?.push(json!(text));
                    continue;
                }
                Some("boolean") => json!(text.parse::<bool>().map_err(|e| bad(e.to_string()))?),
                Some("integer") => json!(text.parse::<i64>().map_err(|e| bad(e.to_string()))?),
                Some("number") => json!(text.parse::<f64>().map_err(|e| bad(e.to_string()))?),
                _ => json!(text),
            };
            if form.insert(name.clone(), value).is_some() {
                return Err(format!("{name} is there twice"));
            }
        }
        Ok(form)
    }

    /// What Twilio does: takes what its description allows, and refuses the rest.
    pub fn answer(&self, request: &Request) -> Act {
        match self.check(request).and_then(|form| self.created(&form)) {
            Ok(body) => Act::answer(201, body),
            Err(wrong) => Act::answer(400, wrong),
        }
    }

    /// What Twilio says when it took a message with these fields: its own example, filled in.
    fn created(&self, form: &Map<String, Value>) -> Result<String, String> {
        let mut answer = self.example.clone();
        for (key, field) in [
            ("to", "To"),
            ("body", "Body"),
            ("from", "From"),
            ("messaging_service_sid", "MessagingServiceSid"),
        ] {
            answer[key] = form.get(field).cloned().unwrap_or(Value::Null);
        }
        valid(&self.answer, &answer)?;
        Ok(answer.to_string())
    }
}

fn valid(validator: &Validator, value: &Value) -> Result<(), String> {
    let wrong: Vec<String> =
        validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

/// OpenAPI 3.0's schema as a JSON schema that refuses what it does not name.
fn validator(published: &Value, schema: &Value) -> Result<Validator, String> {
    let mut schema = schema.clone();
    resolve(published, &mut schema);
    jsonschema::draft4::options()
        .should_validate_formats(true)
        .with_format("phone-number", is_sender)
        .with_format("uri-map", |_: &str| true)
        .with_format("date-time-rfc-2822", |text: &str| text.len() >= 25)
        .with_format("currency", |text: &str| text.len() == 3)
        .build(&schema)
        .map_err(|e| e.to_string())
}

/// Puts what is referred to in its place, `null` among the types where it may be, and names that are not known nowhere.
fn resolve(published: &Value, schema: &mut Value) {
    if let Some(found) = schema["$ref"].as_str().and_then(|at| published.pointer(at.strip_prefix('#')?)) {
        *schema = found.clone();
    }
    if let Some(list) = schema.as_object_mut() {
        list.remove("$ref");
    }
    if schema["nullable"] == true {
        schema["type"] = json!([schema["type"], "null"]);
    }
    if let Some(items) = schema.get_mut("items") {
        resolve(published, items);
    }
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(|property| resolve(published, property));
        schema["additionalProperties"] = json!(false);
    }
}

/// An international number, or the name that some countries allow: up to 11 letters, digits and spaces, one a letter.
fn is_sender(text: &str) -> bool {
    let number = text.strip_prefix('+').is_some_and(|digits| {
        (7..=15).contains(&digits.len())
            && !digits.starts_with('0')
            && digits.bytes().all(|b| b.is_ascii_digit())
    });
    let letters = text.chars().any(|c| c.is_ascii_alphabetic());
    let name = letters && text.len() <= 11 && text.chars().all(|c| c.is_ascii_alphanumeric() || c == ' ');
    number || name
}

#[cfg(test)]
mod tests {
    use super::*;

    const SID: &str = "AC0123456789abcdef0123456789ABCDEF";

    fn request(form: &str) -> Request {
        let signed = base64::engine::general_purpose::STANDARD.encode(format!("{SID}:t0ken"));
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Request {
            method: "POST".into(),
            path: format!("/2010-04-01/Accounts/{SID}/Messages.json"),
            headers: vec![
                header("authorization", &format!("Basic {signed}")),
                header("content-type", "application/x-www-form-urlencoded"),
            ],
            body: form.into(),
            at: std::time::Instant::now(),
        }
    }

    const GOOD: &str = "To=%2B15005550009&From=%2B15005550006&Body=hello";

    #[test]
    fn what_the_description_allows_is_taken_and_answered() {
        let twilio = Twilio::published(SID, "t0ken").expect("the description");
        for good in [
            GOOD,
            "To=%2B15005550009&From=fim+host&Body=%C3%A4",
            &format!("To=%2B15005550009&MessagingServiceSid=MG{}&Body=x", &SID[2..]),
        ] {
            let form = twilio.check(&request(good)).expect(good);
            twilio.created(&form).expect(good);
            assert!(matches!(twilio.answer(&request(good)), Act::Answer { status: 201, .. }));
        }
        let all = format!(
            "{GOOD}&SmartEncoded=true&Attempt=2&MediaUrl=https%3A%2F%2Fa&MediaUrl=https%3A%2F%2Fb&ContentRetention=retain"
        );
        assert_eq!(
            twilio.check(&request(&all)).expect("fields of every type")["MediaUrl"],
            json!(["https://a", "https://b"])
        );
    }

    #[test]
    fn everything_else_is_refused() {
        let twilio = Twilio::published(SID, "t0ken").expect("the description");
        let long = format!("To=%2B15005550009&From=%2B15005550006&Body={}", "x".repeat(1_601));
        for (bad, word) in [
            ("From=%2B15005550006&Body=x", "To"),
            ("To=%2B15005550009&Body=x", "MessagingServiceSid"),
            ("To=%2B15005550009&From=%2B15005550006", "MediaUrl"),
            ("To=%2B15005550009&From=%2B15005550006&Body=", "0 characters"),
            (long.as_str(), "1601 characters"),
            ("to=%2B15005550009&From=%2B15005550006&Body=x", "to"),
            ("To=%2B15005550009&From=%2B15005550006&Body=x&Priority=high", "Priority"),
            ("To=%2B15005550009&To=%2B15005550009&From=%2B15005550006&Body=x", "twice"),
            ("To=15005550009&From=%2B15005550006&Body=x", "phone-number"),
            ("To=%2B15005550009&MessagingServiceSid=MG01&Body=x", "MG01"),
            ("To=%2B15005550009&From=%2B15005550006&Body=x&SmartEncoded=perhaps", "SmartEncoded"),
            ("To=%2B15005550009&From=%2B15005550006&Body=x&ContentRetention=burn", "burn"),
            ("To=%2B15005550009&From=%2B15005550006&Body=%ff", "UTF-8"),
        ] {
            let said = twilio.check(&request(bad)).expect_err(bad);
            assert!(said.contains(word), "{bad}: {said}");
        }
        let changed = |change: &dyn Fn(&mut Request)| {
            let mut request = request(GOOD);
            change(&mut request);
            twilio.check(&request).expect_err("another request")
        };
        assert!(changed(&|r| r.method = "PUT".into()).contains("PUT"));
        assert!(changed(&|r| r.path = "/2010-04-01/Accounts/AC1/Messages.json".into()).contains("AC1"));
        assert!(changed(&|r| r.path.push('x')).contains("no such path"));
        assert!(changed(&|r| r.headers[0].1.push('x')).contains("sign in"));
        assert!(changed(&|r| r.headers.push(r.headers[0].clone())).contains("sign in"));
        assert!(changed(&|r| r.headers[1].1 = "application/json".into()).contains("application/json"));
    }

    #[test]
    fn the_descriptions_own_examples_are_valid_answers() {
        let twilio = Twilio::published(SID, "t0ken").expect("the description");
        let published: Value = serde_json::from_str(PUBLISHED).expect("JSON");
        let examples =
            &published["paths"][PATH]["post"]["responses"]["201"]["content"]["application/json"]["examples"];
        for (name, example) in examples.as_object().expect("examples") {
            valid(&twilio.answer, &example["value"]).expect(name);
        }
        assert!(valid(&twilio.answer, &json!({ "status": "lost" })).is_err());
    }
}
