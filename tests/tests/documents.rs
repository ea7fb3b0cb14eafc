//! The documents say what the programs do: options, rules and reasons stand in the manual pages and in the README.

use std::fs;

use lab::check::Check;
use lab::shipped;

fn read(name: &str) -> String {
    fs::read_to_string(shipped::file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn page(program: &str) -> String {
    read(&format!("man/{program}.8"))
}

/// The page of what all programs share.
fn shared_page() -> String {
    read("man/mysqlchk.7")
}

/// The part of a page below a heading.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!(".SH {heading}\n")).unwrap_or_else(|| panic!("no section {heading}"));
    rest.split("\n.SH ").next().unwrap()
}

/// All `--words` of a text, in order and once.
fn options(text: &str) -> Vec<String> {
    let is_end = |c: char| !(c.is_ascii_lowercase() || c == '-');
    let words = text.split("--").skip(1).map(|rest| rest.split(is_end).next().unwrap_or_default());
    let mut found: Vec<String> = words.filter(|word| word.len() > 1).map(str::to_owned).collect();
    found.sort();
    found.dedup();
    found
}

#[test]
fn a_page_has_every_option_and_no_other() {
    for program in shipped::programs() {
        let help = Check::new(program).args(["--help"]).run().stdout;
        let listed: Vec<&str> = help.lines().filter(|line| line.trim_start().starts_with('-')).collect();
        let (own, shared) = (page(program), shared_page());
        let tags = |page| {
            let items = section(page, "OPTIONS").split(".TP\n").skip(1);
            items.map(|item| item.lines().next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
        };
        let (own, shared) = (options(&tags(&own).join("\n")), options(&tags(&shared).join("\n")));
        assert!(!own.iter().any(|option| shared.contains(option)), "{program}: an option stands in both pages");
        let mut documented = [own, shared].concat();
        documented.sort();
        assert_eq!(options(&listed.join("\n")), documented, "{program}");
    }
}

#[test]
fn a_page_has_the_defaults_of_the_help() {
    for program in shipped::programs() {
        let help = Check::new(program).args(["--help"]).run().stdout;
        let page = page(program) + &shared_page();
        let defaults = help.split("[default: ").skip(1).map(|rest| rest.split([']', ' ']).next().unwrap());
        for default in defaults.filter(|default| !["auto", "no", "do", "all"].contains(default)) {
            assert!(page.contains(default), "{program}: {default}");
        }
    }
}

/// A reason without what varies: numbers, and the values after `is`.
fn shape(reason: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in reason.split(' ') {
        let number = word.trim_matches(|c: char| !c.is_ascii_digit()).to_owned();
        let value = words.last().is_some_and(|last| last == "is")
            && word.chars().next().is_some_and(|c| !c.is_ascii_lowercase());
        let word = if number.is_empty() { word.to_owned() } else { word.replace(&number, "0") };
        words.push(if value { "VALUE".into() } else { word });
    }
    words.join(" ")
}

/// The reasons in the table of a rule's unit test, in its order.
fn table(program: &str) -> Vec<String> {
    let rules = read(&format!("crates/{program}/src/rules.rs"));
    let mut tests = rules.split("#[cfg(test)]").nth(1).unwrap().to_owned();
    // Where several rows have the same reason, it is a constant.
    let mut constants: Vec<String> = tests.lines().filter(|line| line.contains("const ")).map(str::to_owned).collect();
    // A name that ends in another one goes first.
    constants.sort_by_key(|line| std::cmp::Reverse(line.find(':')));
    for line in constants {
        let name = line.trim().trim_start_matches("const ").split(':').next().unwrap();
        let value = line.split('"').nth(1).unwrap_or_else(|| panic!("{program}: {line}"));
        tests = tests.replace(&line, "").replace(name, &format!("\"{value}\""));
    }
    let verdicts = tests.split('"').filter_map(|text| text.strip_prefix("down: ").or(text.strip_prefix("up: ")));
    verdicts.map(shape).collect()
}

/// The reasons that are the tags of a page's rules, in its order.
fn tags(program: &str) -> Vec<String> {
    let page = page(program);
    let rules = section(&page, "RULES");
    let tags = rules.split(".TP\n").skip(1).map(|item| item.lines().next().unwrap());
    let mut tags: Vec<String> = tags.map(|line| line.trim_start_matches(".B ").replace("\\(ga", "`")).collect();
    // The rule that opens both tables of a page is one rule.
    let first = tags.remove(0);
    tags.retain(|tag| *tag != first);
    tags.insert(0, first);
    tags
}

#[test]
fn the_rules_of_a_page_are_those_of_the_code_in_their_order() {
    for program in shipped::programs() {
        let (table, tags) = (table(program), tags(program));
        assert!(tags.len() >= 5, "{program}: {tags:?}");
        let mut last = 0;
        for tag in tags.iter().filter(|tag| !tag.contains("the server answers") && !tag.starts_with("channel")) {
            let at = table.iter().position(|reason| *reason == shape(tag));
            let at = at.unwrap_or_else(|| panic!("{program}: no rule says {tag:?}, in {table:#?}"));
            // What is up stands last in a page, and between the rules in the table.
            let is_up = tag.starts_with("local state is") && !tag.contains("not 4")
                || tag.contains("which is allowed")
                || tag.ends_with("limit is 30s");
            assert!(is_up || at >= last, "{program}: {tag:?} is out of order");
            last = last.max(if is_up { last } else { at });
        }
    }
}

#[test]
fn the_readme_has_every_rule() {
    let readme: Vec<String> = read("README.md").split(['`', '|']).map(|text| shape(text.trim())).collect();
    let readme = readme.join("\n") + &read("README.md");
    for program in shipped::programs() {
        for tag in tags(program) {
            let found = readme.contains(&shape(&tag)) || readme.contains(&tag);
            assert!(found, "{program}: {tag:?} is not in the README");
        }
    }
}

#[test]
fn the_queries_of_a_page_are_those_of_the_code() {
    for program in shipped::programs() {
        let squeeze = |text: &str| text.split_whitespace().collect::<String>();
        let page = squeeze(section(&page(program), "THE QUERY"));
        let files = match program {
            "mysqlchk-status" => &["mysqlchk-status/src/probe.rs", "client/src/group.rs"][..],
            "mysqlchk-replication" => {
                &["mysqlchk-replication/src/probe.rs", "mysqlchk-replication/src/lag.rs", "client/src/group.rs"]
            }
            _ => &["galera-chk/src/probe.rs"],
        };
        let code: String = files.iter().map(|file| read(&format!("crates/{file}"))).collect();
        let code = code.replace("\\\n", "").replace("pub(crate) const", "const").replace("pub const", "const");
        let is_statement =
            |line: &&str| line.contains("&str = \"SHOW") || line.contains("&str = \"SELECT ") && line.contains("FROM");
        let statements = code.lines().filter(|line| line.starts_with("const ")).filter(is_statement);
        for statement in statements.map(|line| squeeze(line.split('"').nth(1).unwrap())) {
            assert!(page.contains(&statement), "{program}: {statement}");
        }
    }
}
