//! The source files of functions, as the debugging information of an executable names them.

use addr2line::{
    Context,
    gimli::{Dwarf, EndianSlice, Error, RunTimeEndian, SectionId},
};
use object::{Object, ObjectSection};

/// Returns for each address the source file of the code there. All are `None` in an executable without
/// debugging information, or with a compressed one.
pub fn source_files(bytes: &[u8], addresses: &[u64]) -> Vec<Option<String>> {
    let context = context(bytes);
    let find = |address: &u64| {
        let location = context.as_ref()?.find_location(*address).ok()??;
        location.file.map(str::to_owned)
    };
    addresses.iter().map(find).collect()
}

fn context(bytes: &[u8]) -> Option<Context<EndianSlice<'_, RunTimeEndian>>> {
    let file = object::File::parse(bytes).ok()?;
    let endian = match file.is_little_endian() {
        true => RunTimeEndian::Little,
        false => RunTimeEndian::Big,
    };
    let section = |id: SectionId| {
        let section = file.section_by_name(id.name());
        // What is compressed is read as if it were not there.
        let plain = section.filter(|it| {
            it.compressed_file_range()
                .is_ok_and(|it| it.format == object::CompressionFormat::None)
        });
        let data = plain.and_then(|it| it.data().ok()).unwrap_or_default();
        Ok::<_, Error>(EndianSlice::new(data, endian))
    };
    Context::from_dwarf(Dwarf::load(section).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_of_this_file_is_found_in_it() {
        let bytes = std::fs::read("/proc/self/exe").expect("it is this program");
        let file = object::File::parse(&*bytes).expect("it is an executable");
        let symbols = object::Object::symbols(&file);
        let own = symbols.filter(|it| {
            use object::ObjectSymbol;
            it.name()
                .is_ok_and(|name| name.contains("source_files") && !name.contains("closure"))
        });
        let addresses: Vec<u64> = own.map(|it| object::ObjectSymbol::address(&it)).collect();
        let files = source_files(&bytes, &addresses);
        assert!(!files.is_empty());
        let found = files.iter().flatten();
        assert!(
            found.clone().all(|it| it.ends_with("functions/sources.rs")) && found.count() > 0,
            "{files:?}"
        );
    }

    #[test]
    fn without_debugging_information_nothing_is_known() {
        assert_eq!(source_files(b"no executable", &[1, 2]), [None, None]);
    }
}
