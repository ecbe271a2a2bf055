// A word list of any bytes, up to a zero byte, and a text of any bytes after it.

#include "align/data/lexicon.hpp"

#include "fuzz.hpp"

std::vector<std::string> fuzz::seeds() {
  const std::string zero(1, '\0');
  return {"good\t1.9\t0.9434\t[2, 1, -1]\n:)\t2.0\t1.18322\t[2, 2]\r\n\nfed up\t-1.8" + zero +
              "Good :) FED up, it's good-ish",
          "abandon\t-2\nbad luck\t-2\ngood\t3" + zero + "'Good' bad\nluck!"};
}

void fuzz::one_input(std::span<const std::byte> bytes) {
  const std::string all = text_of(bytes);
  const std::size_t end = std::min(all.find('\0'), all.size());
  refused_or([&] { return align::parse_lexicon(std::string_view(all).substr(0, end), "input"); },
             [&](const align::lexicon& words) {
               require(words.size() > 0, "a word list has words");
               (void)words.reward(std::string_view(all).substr(end));
             });
}
