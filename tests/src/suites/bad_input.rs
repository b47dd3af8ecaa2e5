pub fn run(_: &crate::fim::Setting, _: &mut crate::report::Report) {}
