#include "machine.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>

namespace ptx {
namespace {

[[nodiscard]] std::uint32_t low(word r) { return static_cast<std::uint32_t>(r); }

}  // namespace

fault machine::wrong(std::uint32_t t, const instruction& i, const std::string& what) const {
  return fault("thread " + std::to_string(t) + " of block " + std::to_string(block_) + ": " + what + "\n  at `" +
               std::string(i.text) + "`\n  in " + readable(kernel_->name));
}

void machine::run(const kernel& k, const launch& l) {
  kernel_ = &k;
  launch_ = &l;
  first_run_ = runs_ + 1;
  const std::uint64_t size = std::uint64_t{l.block[0]} * l.block[1] * l.block[2];
  const std::uint64_t blocks = std::uint64_t{l.grid[0]} * l.grid[1] * l.grid[2];
  if (size == 0 || size > static_cast<std::uint64_t>(k.most_threads) || blocks == 0 || blocks > 0x7fffffffu ||
      l.grid[1] > 65535 || l.grid[2] > 65535)
    throw fault("a launch of " + std::to_string(blocks) + " blocks of " + std::to_string(size) + " threads\n  of " +
                readable(k.name));
  if (k.shared_bytes + l.dynamic_shared_bytes > (l.dynamic_shared_bytes > 0 ? 227 : 48) * 1024)
    throw fault("a launch with too much shared memory\n  of " + readable(k.name));
  size_ = static_cast<std::uint32_t>(size);
  // Blocks may run in any order.
  std::vector<std::uint32_t> order(blocks);
  std::iota(order.begin(), order.end(), 0u);
  std::shuffle(order.begin(), order.end(), draws_);
  for (const std::uint32_t block : order) {
    run_block(block);
    if (report_ != nullptr) sectors_.finish(report_->of(k));
  }
  if (report_ == nullptr) return;
  counts& c = report_->of(k);
  ++c.launches;
  c.threads += size * blocks;
  for (const routine& r : k.routines)
    for (std::size_t n = 0; n < r.code.size(); ++n) report::add(c, r.code[n], std::exchange(r.executed[n], 0));
}

void machine::start(std::uint32_t block) {
  const kernel& k = *kernel_;
  block_ = block;
  ++runs_;
  barriers_ = 1;
  const routine& own = k.routines.front();
  threads_.clear();
  threads_.resize(size_);
  registers_.resize(std::size_t{size_} * own.slots);
  shared_.assign(k.shared_bytes + launch_->dynamic_shared_bytes, 0xcd);
  shared_history_.assign(shared_.size(), {});
  warp_barriers_.assign((size_ + 31) / 32, 1);
  met_.assign(size_, {});
  for (std::uint32_t t = 0; t < size_; ++t) {
    frame& f = threads_[t].now;
    f.in = &own;
    f.registers = registers_.data() + std::size_t{t} * own.slots;
    f.parameters = launch_->parameters;
    f.parameters.resize(own.parameter_bytes);
    threads_[t].local.assign(own.local_bytes, 0xcd);
    enter(f, t);
  }
}

/// What stands in a routine's registers before its first instruction; in all others, nothing in particular.
void machine::enter(frame& f, std::uint32_t t) const {
  const auto& [grid, threads, dynamic, parameters] = *launch_;
  word* const r = f.registers;
  std::fill_n(r, f.in->slots, 0xbadbadbadbadbadbull);
  r[zero] = 0;
  r[tid_x] = t % threads[0], r[tid_y] = t / threads[0] % threads[1], r[tid_z] = t / threads[0] / threads[1];
  r[ntid_x] = threads[0], r[ntid_y] = threads[1], r[ntid_z] = threads[2];
  r[ctaid_x] = block_ % grid[0], r[ctaid_y] = block_ / grid[0] % grid[1], r[ctaid_z] = block_ / grid[0] / grid[1];
  r[nctaid_x] = grid[0], r[nctaid_y] = grid[1], r[nctaid_z] = grid[2];
  r[lane_id] = t % 32, r[warp_size] = 32;
  for (const auto& [at, value] : f.in->constants) r[at] = value;
  for (const auto& [at, value] : f.in->local_addresses) r[at] = value + f.local_base;
}

void machine::call(std::uint32_t t, const routine::call& c) {
  thread& me = threads_[t];
  frame inner;
  inner.in = &kernel_->routines[c.callee];
  inner.own = std::make_unique<word[]>(inner.in->slots);
  inner.registers = inner.own.get();
  inner.parameters.resize(inner.in->parameter_bytes);
  for (std::size_t k = 0; k < c.arguments.size(); ++k) {
    const parameter& p = inner.in->parameters[k];
    std::memcpy(inner.parameters.data() + p.offset, me.now.parameters.data() + c.arguments[k], p.bytes);
  }
  inner.local_base = (me.local.size() + 15) / 16 * 16;
  me.local.resize(inner.local_base + inner.in->local_bytes, 0xcd);
  enter(inner, t);
  me.callers.push_back(std::exchange(me.now, std::move(inner)));
}

/// False where a kernel ends.
bool machine::leave(std::uint32_t t) {
  thread& me = threads_[t];
  if (me.callers.empty()) return false;
  const frame inner = std::exchange(me.now, std::move(me.callers.back()));
  me.callers.pop_back();
  me.local.resize(inner.local_base);
  const routine::call& c = me.now.in->calls[me.at().target];
  for (std::size_t k = 0; k < c.results.size(); ++k) {
    const parameter& p = inner.in->results[k];
    std::memcpy(me.now.parameters.data() + c.results[k], inner.parameters.data() + p.offset, p.bytes);
  }
  ++me.now.pc;
  return true;
}

void machine::run_block(std::uint32_t index) {
  start(index);
  std::vector<std::uint32_t> order(size_);
  std::iota(order.begin(), order.end(), 0u);
  std::shuffle(order.begin(), order.end(), draws_);
  for (;;) {
    for (const std::uint32_t t : order)
      if (threads_[t].is == state::running) step(t);
    bool moved = false;
    for (std::uint32_t warp = 0; warp < warp_barriers_.size(); ++warp) moved = warp_operations(warp) || moved;
    if (moved) continue;
    // Threads that are done need not come to a barrier.
    std::uint32_t waiting = 0, left = 0;
    for (const thread& t : threads_) {
      waiting += t.is == state::at_block_barrier;
      left += t.is != state::done;
    }
    if (left == 0) return;
    if (waiting < left) {
      const auto stuck = std::find_if(threads_.begin(), threads_.end(),
                                      [](const thread& t) { return t.is == state::at_warp_operation; });
      throw wrong(static_cast<std::uint32_t>(stuck - threads_.begin()), stuck->at(),
                  "waits for threads that do not come: " + std::to_string(waiting) + " of " + std::to_string(left) +
                      " are at a barrier of the block");
    }
    ++barriers_;
    for (thread& t : threads_)
      if (t.is == state::at_block_barrier) t.is = state::running, ++t.now.pc;
  }
}

/// A thread until it waits or is done.
void machine::step(std::uint32_t t) {
  thread& me = threads_[t];
  for (;;) {
    // One routine, until it calls, is left or waits.
    word* const r = me.now.registers;
    const instruction* const code = me.now.in->code.data();
    std::uint64_t* const executed = me.now.in->executed.data();
    std::uint32_t pc = me.now.pc;
    const auto here = [&] { return &code[me.now.pc = pc]; };
    for (bool inside = true; inside;) {
      const instruction& i = code[pc];
      if (i.guarded && ((r[i.guard] & 1) != 0) == i.guard_negated) {
        ++pc;
        continue;
      }
      ++executed[pc];
      switch (i.what) {
        case effect::compute:
          i.compute(i, r);
          break;
        case effect::load:
        case effect::store:
          access_memory(t, *here());
          break;
        case effect::branch:
          pc = i.target;
          continue;
        case effect::call:
          call(t, me.now.in->calls[here()->target]);
          inside = false;
          continue;
        case effect::leave:
          if (!leave(t)) {
            me.is = state::done;
            return;
          }
          inside = false;
          continue;
        case effect::block_barrier:
          here();
          me.is = state::at_block_barrier;
          return;
        case effect::warp_barrier:
        case effect::shuffle:
        case effect::vote:
          here();
          me.is = state::at_warp_operation;
          return;
        case effect::active_mask:
          r[i.to[0]] = word{1} << (t % 32);
          break;  // a thread runs alone: true, if of little use
        case effect::nothing:
          break;
      }
      ++pc;
    }
  }
}

void machine::access_memory(std::uint32_t t, const instruction& i) {
  word* const r = threads_[t].now.registers;
  const word base = i.where == space::shared ? low(r[i.address]) : r[i.address];
  const word address = base + static_cast<word>(i.offset);
  const std::size_t all = std::size_t{i.bytes} * i.elements;
  if (address % all != 0)
    throw wrong(t, i, "address " + std::to_string(address) + " is not aligned to " + std::to_string(all));
  std::array<unsigned char, 32> value{};
  if (i.what == effect::store) {
    for (unsigned k = 0; k < i.elements; ++k) std::memcpy(value.data() + k * i.bytes, &r[i.from[k]], i.bytes);
    std::memcpy(reach(t, i, address, all, value.data()), value.data(), all);
    return;
  }
  const unsigned char* const at = reach(t, i, address, all, nullptr);
  for (unsigned k = 0; k < i.elements; ++k) {
    word loaded = 0;
    std::memcpy(&loaded, at + k * i.bytes, i.bytes);
    if (i.is_signed && i.bytes < 8) {
      const int unused = 64 - 8 * i.bytes;
      loaded = static_cast<word>(static_cast<std::int64_t>(loaded << unused) >> unused);
    }
    r[i.to[k]] = loaded;
  }
}

unsigned char* machine::reach(std::uint32_t t, const instruction& i, word address, std::size_t bytes,
                              const unsigned char* written) {
  const auto checked = [&](unsigned char* at, const auto& history_of, const char* where) {
    const auto look = [&](std::size_t b) {
      if (written != nullptr)
        write_after(t, i, history_of(b), at[b] == written[b], where);
      else
        read_after(t, i, history_of(b), where);
    };
    if (i.synchronises) return at;
    // Bytes of one number mostly have one history.
    const byte_history before = history_of(0);
    const bool plain = written == nullptr || in_order(t, before.write);
    look(0);
    for (std::size_t b = 1; b < bytes; ++b)
      if (plain && history_of(b) == before)
        history_of(b) = history_of(0);
      else
        look(b);
    return at;
  };
  if (address < shared_begin) throw wrong(t, i, "a null pointer");
  if (address < local_begin) {
    const word at = address - shared_begin;
    if (at + bytes > shared_.size()) throw wrong(t, i, "outside of shared memory");
    return checked(
        shared_.data() + at, [&](std::size_t b) -> byte_history& { return shared_history_[at + b]; }, "shared");
  }
  if (address < global_begin) {
    // A thread's own: a routine's parameters are in its frame, a generic address of one is of the kernel's.
    thread& me = threads_[t];
    const bool parameters = address >= parameter_begin;
    frame& f = i.where == space::parameter || me.callers.empty() ? me.now : me.callers.front();
    std::vector<unsigned char>& mine = parameters ? f.parameters : me.local;
    const word at = address - (parameters ? parameter_begin : local_begin);
    if (at + bytes > mine.size())
      throw wrong(t, i, parameters ? "outside of the parameters" : "outside of local memory");
    return mine.data() + at;
  }
  if (const std::string what = memory_.outside(address, bytes); !what.empty()) throw wrong(t, i, what);
  if (report_ != nullptr) sectors_.touch(t, i, address, bytes);
  if (written != nullptr)
    memory_.mark_written(address, bytes);
  else if (!memory_.written(address, bytes))
    throw wrong(t, i, "memory that nobody has written");
  return checked(
      memory_.bytes(address), [&](std::size_t b) -> byte_history& { return memory_.history(address + b); }, "global");
}

bool machine::in_order(std::uint32_t t, const access& before) const {
  if (before.run < first_run_) return true;
  if (before.run != runs_) return false;
  if (before.barriers < barriers_) return true;
  if (before.other_warps || before.warp != t / 32) return false;
  for (std::uint32_t others = before.lanes & ~(1u << (t % 32)); others != 0; others &= others - 1)
    if (met_[t][static_cast<std::size_t>(std::countr_zero(others))] <= before.warp_barriers) return false;
  return true;
}

/// Adds thread t to those who touched a byte, and forgets who did so in order before it.
void machine::touch(std::uint32_t t, access& known) const {
  const access now{runs_, barriers_, warp_barriers_[t / 32], 1u << (t % 32), static_cast<std::uint16_t>(t / 32), false};
  if (in_order(t, known)) {
    known = now;
    return;
  }
  known.other_warps = known.other_warps || known.run != runs_ || known.warp != now.warp;
  known.lanes |= now.lanes;
  known.warp_barriers = std::max(known.warp_barriers, now.warp_barriers);
}
void machine::read_after(std::uint32_t t, const instruction& i, byte_history& h, const char* where) {
  if (!in_order(t, h.write))
    throw wrong(
        t, i, std::string("another thread has written this byte of ") + where + " memory, and no barrier lies between");
  touch(t, h.read);
}
void machine::write_after(std::uint32_t t, const instruction& i, byte_history& h, bool same_value, const char* where) {
  if (!in_order(t, h.read) || !(in_order(t, h.write) || same_value))
    throw wrong(t, i,
                std::string("another thread has ") + (in_order(t, h.read) ? "written" : "read") + " this byte of " +
                    where + " memory, and no barrier lies between");
  touch(t, h.write);
}

/// Does what the threads of a warp have met for; false where some are still missing everywhere.
bool machine::warp_operations(std::uint32_t warp) {
  const std::uint32_t first = warp * 32, lanes = std::min(32u, size_ - first);
  bool moved = false;
  for (std::uint32_t lane = 0; lane < lanes; ++lane) {
    const thread& one = threads_[first + lane];
    if (one.is != state::at_warp_operation) continue;
    const instruction& i = one.at();
    const slot mask = i.what == effect::warp_barrier ? i.from[0] : i.from[i.froms - 1];
    const std::uint32_t members = low(one.now.registers[mask]);
    if ((members >> lane & 1) == 0) throw wrong(first + lane, i, "a mask of threads without the one itself");
    bool all = true;
    for (std::uint32_t other = 0; other < 32 && all; ++other) {
      if ((members >> other & 1) == 0 || (other >= lanes)) continue;
      const thread& o = threads_[first + other];
      if (o.is == state::done) {
        if (i.what == effect::warp_barrier) continue;
        throw wrong(first + lane, i, "lane " + std::to_string(other) + " of the mask has ended");
      }
      const instruction& theirs = o.at();
      all =
          o.is == state::at_warp_operation && theirs.opcode == i.opcode &&
          low(o.now.registers[theirs.what == effect::warp_barrier ? theirs.from[0] : theirs.from[theirs.froms - 1]]) ==
              members;
    }
    if (!all) continue;
    exchange(warp, members);
    moved = true;
  }
  return moved;
}

void machine::exchange(std::uint32_t warp, std::uint32_t members) {
  const std::uint32_t first = warp * 32;
  std::array<std::uint32_t, 32> offered{};
  std::uint32_t came = 0;
  for (std::uint32_t lane = 0; lane < 32 && first + lane < size_; ++lane) {
    const thread& t = threads_[first + lane];
    if ((members >> lane & 1) == 0 || t.is != state::at_warp_operation) continue;
    came |= 1u << lane;
    const instruction& i = t.at();
    if (i.what != effect::warp_barrier) offered[lane] = low(t.now.registers[i.from[0]]);
  }
  ++warp_barriers_[warp];
  std::uint32_t votes = 0;
  for (std::uint32_t lane = 0; lane < 32; ++lane)
    if ((came >> lane & 1) != 0) votes |= (offered[lane] & 1) << lane;
  for (std::uint32_t lane = 0; lane < 32; ++lane) {
    if ((came >> lane & 1) == 0) continue;
    thread& t = threads_[first + lane];
    const instruction& i = t.at();
    word* const r = t.now.registers;
    t.is = state::running;
    ++t.now.pc;
    if (i.what == effect::warp_barrier) {
      for (std::uint32_t other = 0; other < 32; ++other)
        if ((came >> other & 1) != 0) met_[first + lane][other] = warp_barriers_[warp];
    } else if (i.what == effect::vote) {
      switch (static_cast<vote_mode>(i.mode)) {
        case vote_mode::all:
          r[i.to[0]] = votes == came;
          break;
        case vote_mode::any:
          r[i.to[0]] = votes != 0;
          break;
        case vote_mode::uniform:
          r[i.to[0]] = votes == came || votes == 0;
          break;
        case vote_mode::ballot:
          r[i.to[0]] = votes;
          break;
      }
    } else {
      // The PTX manual's shfl: b is the distance or the lane, c holds the clamp and the mask of segments.
      const std::uint32_t b = low(r[i.from[1]]) & 31, c = low(r[i.from[2]]), segments = c >> 8 & 31, clamp = c & 31;
      const std::uint32_t last = (lane & segments) | (clamp & ~segments), least = lane & segments;
      std::uint32_t from = lane;
      bool inside = false;
      switch (static_cast<shuffle_mode>(i.mode)) {
        case shuffle_mode::up:
          from = lane - b;
          inside = static_cast<std::int32_t>(from) >= static_cast<std::int32_t>(last);
          break;
        case shuffle_mode::down:
          from = lane + b, inside = from <= last;
          break;
        case shuffle_mode::butterfly:
          from = lane ^ b, inside = from <= last;
          break;
        case shuffle_mode::index:
          from = least | (b & ~segments), inside = from <= last;
          break;
      }
      if (!inside) from = lane;
      // From a lane that does not take part comes nothing in particular.
      r[i.to[0]] = (came >> from & 1) != 0 ? offered[from] : 0xbadbadbau;
      if (i.tos > 1) r[i.to[1]] = inside;
    }
  }
}

}  // namespace ptx
