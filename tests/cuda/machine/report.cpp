#include "report.hpp"

#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <tuple>

namespace ptx {
namespace {

constexpr word sector = 32;

[[nodiscard]] bool begins(const std::string& s, const char* with) { return s.rfind(with, 0) == 0; }
[[nodiscard]] bool ends(const std::string& s, const std::string& with) {
  return s.size() >= with.size() && s.compare(s.size() - with.size(), with.size(), with) == 0;
}

}  // namespace

std::string readable(const std::string& name) {
  int failed = 0;
  const std::unique_ptr<char, void (*)(void*)> clear(abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &failed),
                                                     std::free);
  return failed == 0 ? clear.get() : name;
}

void sector_counter::touch(std::uint32_t thread, const instruction& i, word address, std::size_t bytes) {
  const std::uint32_t visit = visits_[{&i, thread}]++;
  std::vector<word>& sectors = touched_[{&i, thread / 32, visit}];
  for (word s = address / sector; s <= (address + bytes - 1) / sector; ++s)
    if (std::find(sectors.begin(), sectors.end(), s) == sectors.end()) sectors.push_back(s);
}
void sector_counter::finish(counts& to) {
  for (const auto& [access, sectors] : touched_)
    (access.at->what == effect::load ? to.sector_bytes_read : to.sector_bytes_written) += sector * sectors.size();
  start();
}

void report::add(counts& to, const instruction& i, std::uint64_t times) {
  if (times == 0 || i.opcode == nullptr) return;
  const std::string& code = *i.opcode;
  // Names that stand for no instruction of the device: parameters are in the constant bank, addresses are plain.
  if (i.where == space::parameter || begins(code, "cvta") || begins(code, "mov")) return;
  to.instructions += times;
  const bool memory = i.what == effect::load || i.what == effect::store;
  const std::uint64_t bytes = times * i.bytes * i.elements;
  if (memory && i.where == space::global)
    (i.what == effect::load ? to.bytes_read : to.bytes_written) += bytes;
  else if (memory)
    to.shared += times;
  else if (i.what == effect::shuffle || i.what == effect::vote || i.what == effect::warp_barrier ||
           i.what == effect::block_barrier)
    to.exchanges += times;
  else if (begins(code, "ex2") || begins(code, "lg2") || begins(code, "rcp") || begins(code, "sqrt") ||
           begins(code, "sin") || begins(code, "cos") || begins(code, "div"))
    to.special += times;
  else if (ends(code, "f64") || code.find(".f64") != std::string::npos)
    to.twofold += times;
  else if (ends(code, "f32") || code.find(".f32") != std::string::npos)
    to.single += times;
  else
    to.integer += times;
}

void report::write(const std::string& file) const {
  std::ofstream out(file + ".new");
  out << "launches\tthreads\tinstructions\tsingle\tdouble\tspecial\tinteger\tshared\texchanges\tread\twritten\tsectors_"
         "read\t"
         "sectors_written\tkernel\n";
  for (const auto& [name, c] : all_)
    out << c.launches << '\t' << c.threads << '\t' << c.instructions << '\t' << c.single << '\t' << c.twofold << '\t'
        << c.special << '\t' << c.integer << '\t' << c.shared << '\t' << c.exchanges << '\t' << c.bytes_read << '\t'
        << c.bytes_written << '\t' << c.sector_bytes_read << '\t' << c.sector_bytes_written << '\t' << readable(name)
        << '\n';
  out.close();
  if (!out || std::rename((file + ".new").c_str(), file.c_str()) != 0) throw fault("the machine: cannot write " + file);
}

}  // namespace ptx
