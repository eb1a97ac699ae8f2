"""Plots that ask what: what made the noise, what is in the box, whose are the tracks, what will hatch."""

from __future__ import annotations

from mechft.tasks.stories.procedural.plot import Plot
from mechft.tasks.stories.procedural.templates import Telling, listed

NOISE = Plot(
    name="noise",
    candidates=listed(
        "an owl, a mouse, a frog, a cat, a dog, a goat, a duck, a raccoon, a squirrel, "
        "a hedgehog, a cow, a crow, a pony, a rabbit"
    ),
    things=listed(
        "barn, shed, hedge, old stable, garden, yard, tall grass, empty house, boat house, old tent"
    ),
    event=(
        "{Later}, they heard a strange noise from the {thing}.",
        "{Later}, there was a strange noise in the {thing}.",
        "{Later}, {friend} heard something in the {thing}.",
        "{Later}, a strange noise came out of the {thing}, and {hero} jumped.",
    ),
    question=Telling(
        (
            "They asked themselves what it could be.",
            "They wanted to know what made such a noise.",
            "Nobody could see what was in there.",
        ),
        (
            '"What is that noise?" asked {friend}.',
            '"There is something in the {thing}!" cried {hero}.',
            '"Did you hear that?" asked {hero}.',
        ),
    ),
    ask="what makes the noise in the {thing}",
    claim="the noise came from {x}",
    said="the noise comes from {x}",
    found="the noise comes from {x}",
    search=(
        "They took a lamp and went to the {thing} on their toes.",
        "They held hands and walked to the {thing}.",
        "They went closer, step by step.",
        "{hero} took a big breath and looked.",
    ),
    reveal=Telling(
        (
            "The noise came from {answer}.",
            "In the {thing} sat {answer}.",
            "Two eyes looked at them, and they were the eyes of {answer}.",
        ),
        ('"Look, {answer} made the noise!" cried {friend}.',),
    ),
    good=(
        "The animal was only hungry, so they gave it some bread.",
        "The animal was lonely, and from then on it played with them every day.",
        "The animal let them pet it, and they gave it a funny name.",
    ),
    bad=(
        "The animal was very ill, and nobody could help it.",
        "The animal was scared and bit {hero} in the hand.",
        "The animal ran into the road and was badly hurt.",
    ),
    lessons=(
        "the dark is not so bad with a friend",
        "being brave means to go and look",
    ),
)

BOX = Plot(
    name="box",
    candidates=listed(
        "a kite, a teddy bear, a toy train, a drum, a lamp, a doll, a puzzle, a clock, a hat, "
        "a ball, a picture book, a blanket, an umbrella, a flute, a toy boat"
    ),
    things=listed(
        "red, blue, green, yellow, white, purple, pink, golden, silver, black, brown, wide, torn"
    ),
    event=(
        "{Later}, a box with a {thing} ribbon stood in front of the door.",
        "{Later}, they found a box with a {thing} ribbon under a tree.",
        "{Later}, the postman brought a box with a {thing} ribbon.",
        "{Later}, {hero} saw a box with a {thing} ribbon on the stairs.",
    ),
    question=Telling(
        (
            "They asked themselves what was in it.",
            "They wanted to know what they would find in it.",
            "Nobody had told them about it.",
        ),
        (
            '"What is in the box?" asked {friend}.',
            '"I want to see what is in it!" cried {hero}.',
            '"Shall we open the box?" asked {hero}.',
        ),
    ),
    ask="what is in the box with the {thing} ribbon",
    claim="there was {x} in the box",
    said="there is {x} in the box",
    found="there is {x} in the box",
    search=(
        "They shook the box, and then they pulled at the {thing} ribbon.",
        "Slowly they opened the lid.",
        "It took them a long time to open the knots of the {thing} ribbon.",
        "{hero} cut the ribbon, and they looked into the box.",
    ),
    reveal=Telling(
        (
            "There was {answer} in the box.",
            "In the box was {answer}.",
            "In soft paper lay {answer}.",
        ),
        ('"Look, there is {answer} in it!" cried {friend}.',),
    ),
    good=(
        "It was a present from Grandpa, and they loved it.",
        "There was a card, too, and it said that the present was for both of them.",
        "It was just what they had always wanted.",
    ),
    bad=(
        "It was broken, and nobody could fix it.",
        "It was for another child, and they had to give it back.",
        "Then a big boy took it away from them and ran.",
    ),
    lessons=(
        "it is fun to wait for something",
        "you cannot know a present by its paper",
    ),
)

TRACKS = Plot(
    name="tracks",
    candidates=listed(
        "a fox, a bear, a deer, a wolf, a badger, a goose, a turkey, a beaver, a pony, an otter, "
        "a turtle, a pig, a donkey, a goat"
    ),
    things=listed(
        "mud by the gate, wet sand by the water, soft ground of the garden, dust of the road, "
        "mud behind the house, soft ground under the trees, wet grass, sand of the playground"
    ),
    event=(
        "{Later}, they saw strange tracks in the {thing}.",
        "{Later}, there were new tracks in the {thing}.",
        "{Later}, {friend} found big tracks in the {thing}.",
        "{Later}, {hero} saw tracks in the {thing} and stopped.",
    ),
    question=Telling(
        (
            "They asked themselves which animal it was.",
            "They wanted to know where the tracks came from.",
            "Nobody had seen such tracks there before.",
        ),
        (
            '"What animal was here?" asked {friend}.',
            '"Somebody has walked here!" cried {hero}.',
            '"Can you see these tracks?" asked {hero}.',
        ),
    ),
    ask="which animal made the tracks in the {thing}",
    claim="{x} had made the tracks",
    said="{x} made the tracks",
    found="{x} has made the tracks",
    search=(
        "They followed the tracks for a long time.",
        "They walked beside the tracks until they came to a big rock.",
        "They went after the tracks, over a hill and through a field.",
        "{hero} went first, and the tracks led them to a cave.",
    ),
    reveal=Telling(
        (
            "{Answer} had made the tracks.",
            "At the end of the tracks stood {answer}.",
            "There, in the sun, sat {answer}.",
        ),
        ('"Look, {answer} made them!" cried {friend}.',),
    ),
    good=(
        "The animal was tame and let them touch its back.",
        "The animal had two babies, and they watched them play until dark.",
        "The animal came home with them and was their friend from then on.",
    ),
    bad=(
        "The animal was angry and ran after them, and {friend} hurt a leg.",
        "The animal was caught in a trap, and they came too late to help it.",
        "The animal had eaten everything in the garden, and now they had no food for the winter.",
    ),
    lessons=(
        "it is good to look closely",
        "animals need their peace",
    ),
)

EGG = Plot(
    name="egg",
    candidates=listed(
        "a duckling, a chick, a baby turtle, a baby snake, a little lizard, a baby swan, "
        "a little goose, a baby crocodile, a baby owl, a tiny dragon, a baby parrot, "
        "a baby penguin, a baby eagle"
    ),
    things=listed(
        "white, blue, brown, green, warm, big, grey, round, heavy, smooth, yellow, pink, strange"
    ),
    event=(
        "{Later}, they found a {thing} egg in the grass.",
        "{Later}, there was a {thing} egg in an empty nest.",
        "{Later}, {friend} came with a {thing} egg in a basket.",
        "{Later}, {hero} saw a {thing} egg between two stones.",
    ),
    question=Telling(
        (
            "They asked themselves what was in it.",
            "They wanted to know what would come out.",
            "Nobody had ever seen such an egg.",
        ),
        (
            '"What is in the egg?" asked {friend}.',
            '"I have never seen such an egg!" cried {hero}.',
            '"What will come out of it?" asked {hero}.',
        ),
    ),
    ask="what comes out of the {thing} egg",
    claim="{x} would come out of the egg",
    said="{x} will come out of the egg",
    found="{x} comes out of the egg",
    search=(
        "They kept the egg warm under a blanket for many days.",
        "At last the egg began to shake, and the shell broke.",
        "They sat beside the egg every day, and one morning the shell broke.",
        "{hero} put the egg near the oven and waited.",
    ),
    reveal=Telling(
        (
            "{Answer} came out of the egg.",
            "Out of the egg came {answer}.",
            "In the broken shell sat {answer}.",
        ),
        ('"Look, {answer} came out!" cried {friend}.',),
    ),
    good=(
        "The little one followed {hero} everywhere and grew big and strong.",
        "The little one found its mother, and she thanked them.",
        "They fed the little one, and it slept in a soft bed of hay.",
    ),
    bad=(
        "The little one was too weak and died the same night.",
        "One day the little one was gone, and they never saw it again.",
        "The little one called for its mother, but she did not come back.",
    ),
    lessons=(
        "good things need time",
        "little ones need a lot of care",
    ),
)

WHAT = (NOISE, BOX, TRACKS, EGG)
