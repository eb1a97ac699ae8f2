"""Plots that ask where: where the lost thing is, and where the path goes."""

from __future__ import annotations

from mechft.tasks.stories.procedural.plot import Plot
from mechft.tasks.stories.procedural.templates import Telling, listed

LOST = Plot(
    name="lost",
    candidates=listed(
        "under the bed, in the garden, behind the door, in the old tree, by the well, "
        "on the roof, in the barn, under the stairs, behind the shed, in the tall grass, "
        "on the top shelf, under the bench, in the basket, on the boat"
    ),
    things=listed(
        "ring, silver key, whistle, little bell, music box, doll, toy car, magic stone, "
        "wooden horse, pencil box, flute, necklace, toy bird, paper boat, glass cup"
    ),
    event=(
        "{Later}, {hero} could not find {his} {thing} any more.",
        "{Later}, {hero} saw that {his} {thing} was not in its place.",
        "{Later}, {hero} opened {his} bag, and the {thing} was not there.",
        "{Later}, {hero} wanted to show {his} {thing} to {friend}, but it was gone.",
    ),
    question=Telling(
        (
            "They asked themselves where it could be.",
            "They wanted to know where it was.",
            "Nobody had seen it that day.",
        ),
        (
            '"Where is your {thing}?" asked {friend}.',
            '"I have lost my {thing}!" cried {hero}.',
            '"Where can it be?" asked {hero}.',
        ),
    ),
    ask="where the {thing} is",
    claim="the {thing} was {x}",
    said="the {thing} is {x}",
    found="the {thing} is {x}",
    search=(
        "They began to look everywhere, inside and outside.",
        "They looked and looked until they were tired.",
        "They took a lamp and went to look for it.",
        "{friend} went to the left, {hero} went to the right, and at last they found it.",
    ),
    reveal=Telling(
        (
            "The {thing} was {answer}.",
            "{Answer} lay the {thing}.",
            "There it lay, {answer}.",
        ),
        ('"Look, here it is, {answer}!" cried {friend}.',),
    ),
    good=(
        "{hero} held the {thing} tight and gave {friend} a big hug.",
        "The {thing} was as good as new, and {hero} put it back in its place.",
        "They cleaned the {thing} together until it looked like new.",
    ),
    bad=(
        "The {thing} was broken, and nobody could fix it.",
        "Somebody had stepped on the {thing}, and now it was in pieces.",
        "Before they could reach it, a wild bird took the {thing} and flew away with it.",
    ),
    lessons=(
        "it is good to put things back in their place",
        "four eyes see more than two",
    ),
)

PATH = Plot(
    name="path",
    candidates=listed(
        "a lake, a castle, a cave, a rose garden, a waterfall, a village, a windmill, a tower, "
        "an apple orchard, a beach, a market, a playground, a lighthouse, a stone bridge"
    ),
    things=listed(
        "narrow, stony, winding, hidden, dark, sandy, steep, green, strange, long, muddy, quiet"
    ),
    event=(
        "{Later}, they found a {thing} path that they did not know.",
        "{Later}, there was a {thing} path behind a bush.",
        "{Later}, {friend} came to a {thing} path and stopped.",
        "{Later}, {hero} saw a {thing} path between the trees.",
    ),
    question=Telling(
        (
            "They asked themselves where it would take them.",
            "They wanted to know what was at its end.",
            "Nobody had ever told them about it.",
        ),
        (
            '"Where does this path go?" asked {friend}.',
            '"Let us see where this path ends!" cried {hero}.',
            '"Do you know this path?" asked {hero}.',
        ),
    ),
    ask="where the {thing} path goes",
    claim="the path went to {x}",
    said="the path goes to {x}",
    found="the path goes to {x}",
    search=(
        "They walked along the {thing} path, hand in hand.",
        "They walked for an hour, past rocks and trees.",
        "They took some bread and water and started to walk.",
        "{hero} went first, and {friend} came after {him}.",
    ),
    reveal=Telling(
        (
            "The path went to {answer}.",
            "At the end of the path was {answer}.",
            "Behind the last tree they saw {answer}.",
        ),
        ('"Look, there is {answer}!" cried {friend}.',),
    ),
    good=(
        "They had a picnic there, and it was their secret place from then on.",
        "They met other children there and played with them until dark.",
        "It was so pretty there that they came back every week.",
    ),
    bad=(
        "On the way back they lost the path, and it took two cold days until somebody found them.",
        "It was an ugly and lonely place, and {friend} fell and broke an arm.",
        "When they came home at last, their house had burned down.",
    ),
    lessons=(
        "every path begins with one step",
        "it is good to tell Mom and Dad where you go",
    ),
)

WHERE = (LOST, PATH)
